import type { Speedup } from '../evaluation/speed.js';
import type { WidthAdvice } from '../evaluation/width-advice.js';
import type { WidthProbes } from './probe-widths.js';

/** A model compared with the first one. */
export interface SpeedComparison {
  readonly model: string;
  readonly reference: string;
  readonly prefill: Speedup;
  readonly decode: Speedup;
  /** Bytes over the first model's. */
  readonly fileRatio: number;
  readonly memoryRatio: number;
  /** Neighbouring FFN widths on this machine; absent when they were not timed. */
  readonly widths?: WidthProbes;
  /** Summary, in sentences. */
  readonly summary: readonly string[];
}

/** A comparison in sentences: how much faster, or that it is not, and whether other widths would be. */
export function explainSpeed(
  { prefill, decode, fileRatio, widths }: Omit<SpeedComparison, 'summary'>,
  hasCache: boolean,
): string[] {
  const isFaster = prefill.verdict === 'faster' || decode.verdict === 'faster';
  return [
    describeSpeed('Reading a prompt', prefill),
    describeSpeed('Writing', decode),
    ...(isFaster || fileRatio >= 1
      ? []
      : [`It is smaller (${percent(1 - fileRatio)} less on the disk) but not faster on this machine.`]),
    ...(hasCache ? [] : ['The graph has no KV cache: every token written reads the whole text again.']),
    ...(widths === undefined ? [] : [describeWidths(widths.advice)]),
  ];
}

function describeSpeed(what: string, { ratio, interval, verdict }: Speedup): string {
  const range = `95 % interval ${interval.map((end) => end.toFixed(2)).join(' to ')}`;
  if (verdict === 'same') return `${what}: no faster beyond noise, ${ratio.toFixed(2)} times (${range}).`;
  return `${what}: ${verdict}, ${ratio.toFixed(2)} times as fast (${range}).`;
}

function describeWidths(advice: readonly WidthAdvice[]): string {
  const [first, ...others] = [...advice].sort(
    (a, b) => a.prefillRatio + a.decodeRatio - b.prefillRatio - b.decodeRatio,
  );
  if (first === undefined) {
    return 'Neighbouring FFN widths take no less time per neuron here: another width multiple would not be faster.';
  }
  const { multiple, width, rounded, prefillRatio, decodeRatio } = first;
  const more = others.length === 0 ? '' : ', and other blocks alike';
  return (
    `FFN width ${width} is slow here: at ${rounded} a neuron takes ${change(prefillRatio)} time for a prompt and ` +
    `${change(decodeRatio)} for a token${more}. Try the width multiple ${multiple} when pruning.`
  );
}

function change(ratio: number): string {
  return ratio < 1 ? `${percent(1 - ratio)} less` : `${percent(ratio - 1)} more`;
}

function percent(fraction: number): string {
  return `${Math.round(100 * fraction)} %`;
}
