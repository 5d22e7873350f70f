import type { PrunableModule } from '../architecture/layout.js';
import type { ChannelStatistics } from '../compensation/adapter.js';

/** Variance of what counts as constant, and distance of what counts as equal, as fractions: above float32's rounding. */
const [CONSTANT, EQUAL] = [1e-10, 1e-6] as const;

/** Blocks that a remark names. */
const NAMED_BLOCKS = 8;

/** Windows that hold one token over and over, such as padding: nothing is wrong with them, and little is learnt. */
export function remarkWindows(windows: readonly Int32Array[]): string[] {
  const constant = windows.flatMap((window, at) =>
    window.length > 1 && window.every((token) => token === window[0]) ? [at] : [],
  );
  const [first] = constant;
  if (first === undefined) return [];
  const found = `${constant.length} of ${windows.length} calibration windows repeat a single token`;
  return [`${found}, such as padding (window ${first}: token ${windows[first]![0]}); they carry little information`];
}

/** Channels of a module on which formulas would divide by zero, or cannot choose. */
export interface DegenerateChannels {
  /** How many were met of each kind of them. */
  readonly counts: readonly number[];
  /** Channels in all. */
  readonly all: number;
}

const KINDS = {
  ffn: 'FFN neurons',
  attention: 'channels of attention heads',
  experts: 'experts',
} as const satisfies Record<PrunableModule['kind'], string>;

const FOUND = [
  ['are zero on all calibration tokens', (statistics: ChannelStatistics) => count(statistics, isZero)],
  ['are the same on all calibration tokens', (statistics: ChannelStatistics) => count(statistics, isConstant)],
  ['equal another one of their group on all calibration tokens', countDuplicates],
] as const;

/** @param statistics of a module, by function group */
export function countDegenerate(statistics: readonly ChannelStatistics[]): DegenerateChannels {
  const sum = (of: (one: ChannelStatistics) => number) => statistics.reduce((total, one) => total + of(one), 0);
  return { counts: FOUND.map(([, of]) => sum(of)), all: sum(({ mean }) => mean.length) };
}

/** A line for each kind of module and of channel that was met. */
export function remarkDegenerate(
  found: readonly (DegenerateChannels & { readonly module: PrunableModule })[],
): readonly string[] {
  return Object.entries(KINDS).flatMap(([kind, noun]) => {
    const own = found.filter(({ module }) => module.kind === kind);
    const all = own.reduce((sum, one) => sum + one.all, 0);
    return FOUND.flatMap(([what], at) => {
      const met = own.filter(({ counts }) => counts[at]! > 0);
      const total = met.reduce((sum, { counts }) => sum + counts[at]!, 0);
      const blocks = nameBlocks(met.map(({ module }) => module.block));
      return total === 0 ? [] : [`${total} of ${all} ${noun} ${what} (${blocks})`];
    });
  });
}

function nameBlocks(blocks: readonly number[]): string {
  const more = blocks.length > NAMED_BLOCKS ? ', ...' : '';
  return `block${blocks.length > 1 ? 's' : ''} ${blocks.slice(0, NAMED_BLOCKS).join(', ')}${more}`;
}

type Judge = (mean: number, variance: number) => boolean;

const isZero: Judge = (mean, variance) => mean === 0 && variance === 0;
const isConstant: Judge = (mean, variance) => mean !== 0 && variance <= CONSTANT * mean * mean;

const count = ({ mean, variance }: ChannelStatistics, judge: Judge): number =>
  mean.reduce((sum, value, at) => sum + Number(judge(value, variance[at]!)), 0);

/** Channels that vary and whose mean and variance are those of one before them. */
function countDuplicates({ mean, variance }: ChannelStatistics): number {
  const varying = [...mean.keys()]
    .filter((at) => variance[at]! > CONSTANT * mean[at]! * mean[at]!)
    .sort((one, other) => variance[one]! - variance[other]!);
  return varying.filter((at, order) => {
    const before = varying[order - 1];
    if (before === undefined) return false;
    const square = mean[at]! ** 2 + variance[at]!;
    const isNear = Math.abs(mean[at]! - mean[before]!) <= EQUAL * Math.sqrt(square);
    return isNear && variance[at]! - variance[before]! <= EQUAL * square;
  }).length;
}
