import { counted } from '../counted.js';
import type { ComparedMeasure, PairedDifference, TaskComparison } from './compare-results.js';

/** A comparison as a sentence, such as `B is worse by 5.3 points of acc_norm (95 % interval 2.0 to 8.7).` */
export function explainComparison(comparison: TaskComparison): string {
  const { verdict, deciding, confidence, itemCount } = comparison;
  const percent = `${Number((100 * confidence).toFixed(1))} %`;
  const [first] = deciding;
  if (verdict === 'same' || first === undefined) {
    const measure: ComparedMeasure = comparison.accNorm === undefined ? 'acc' : 'accNorm';
    const range = describeRange(comparison[measure]!.interval);
    return `No difference beyond noise on ${counted(itemCount, 'item')}: ${NAMES[measure]} changes by ${range} points (${percent} interval).`;
  }
  const difference = comparison[first]!;
  const sentence = `B is ${verdict} by ${describeSize(first, difference, percent)}`;
  const acc = comparison.accNorm === undefined ? 'acc' : 'accNorm';
  return first === 'goldNll'
    ? `${sentence}; ${NAMES[acc]} alone shows no difference beyond noise on ${counted(itemCount, 'item')}.`
    : `${sentence}.`;
}

const NAMES: Readonly<Record<ComparedMeasure, string>> = {
  accNorm: 'acc_norm',
  acc: 'acc',
  goldNll: 'likelihood of the right answer',
};

function describeSize(measure: ComparedMeasure, { difference, interval }: PairedDifference, percent: string): string {
  const scale = measure === 'goldNll' ? 1 : 100;
  const digits = measure === 'goldNll' ? 3 : 1;
  const ends = interval.map((end) => Math.sign(difference) * end * scale).sort((x, y) => x - y);
  const size = Math.abs(difference * scale).toFixed(digits);
  const unit = measure === 'goldNll' ? `nats in the ${NAMES[measure]}` : `points of ${NAMES[measure]}`;
  return `${size} ${unit} (${percent} interval ${ends.map((end) => end.toFixed(digits)).join(' to ')})`;
}

function describeRange(interval: readonly [number, number]): string {
  return interval.map((end) => (100 * end).toFixed(1)).join(' to ');
}
