import { nameBlocks } from '../architecture/group-unrecognised.js';
import type { PrunableModule } from '../architecture/layout.js';
import type { ChannelStatistics } from '../compensation/adapter.js';

/** Largest relative variance of constant channels, and relative distance of equal ones: above float32's rounding. */
const [CONSTANT, EQUAL] = [1e-10, 1e-6] as const;

/** Remark about windows that repeat one token, such as padding. They are valid, but carry little information. */
export function remarkWindows(windows: readonly Int32Array[]): string[] {
  const constant = windows.flatMap((window, at) =>
    window.length > 1 && window.every((token) => token === window[0]) ? [at] : [],
  );
  const [first] = constant;
  if (first === undefined) return [];
  const found = `${constant.length} of ${windows.length} calibration windows repeat a single token`;
  return [`${found}, such as padding (window ${first}: token ${windows[first]![0]}); they carry little information`];
}

/** Channels of a module that formulas would divide by zero for, or cannot distinguish. */
export interface DegenerateChannels {
  /** By kind of degenerate channel. */
  readonly counts: readonly number[];
  /** Total number of channels. */
  readonly all: number;
}

const KINDS = {
  ffn: 'FFN neurons',
  attention: 'channels of attention heads',
  experts: 'experts',
} as const satisfies Record<PrunableModule['kind'], string>;

const CHECKS = [
  ['are zero on all calibration tokens', (statistics: ChannelStatistics) => count(statistics, isZero)],
  ['are the same on all calibration tokens', (statistics: ChannelStatistics) => count(statistics, isConstant)],
  ['equal another one of their group on all calibration tokens', countDuplicates],
] as const;

/** Counts a module's degenerate channels. @param statistics By function group. */
export function countDegenerate(statistics: readonly ChannelStatistics[]): DegenerateChannels {
  const sum = (of: (one: ChannelStatistics) => number) => statistics.reduce((total, one) => total + of(one), 0);
  return { counts: CHECKS.map(([, of]) => sum(of)), all: sum(({ mean }) => mean.length) };
}

/** A remark for each kind of module and kind of degenerate channel. */
export function remarkDegenerate(
  found: readonly (DegenerateChannels & { readonly module: PrunableModule })[],
): readonly string[] {
  return Object.entries(KINDS).flatMap(([kind, noun]) => {
    const own = found.filter(({ module }) => module.kind === kind);
    const all = own.reduce((sum, one) => sum + one.all, 0);
    return CHECKS.flatMap(([description], at) => {
      const affected = own.filter(({ counts }) => counts[at]! > 0);
      const total = affected.reduce((sum, { counts }) => sum + counts[at]!, 0);
      const blocks = nameBlocks(affected.map(({ module }) => module.block));
      return total === 0 ? [] : [`${total} of ${all} ${noun} ${description} (${blocks})`];
    });
  });
}

type Check = (mean: number, variance: number) => boolean;

const isZero: Check = (mean, variance) => mean === 0 && variance === 0;
const isConstant: Check = (mean, variance) => mean !== 0 && variance <= CONSTANT * mean * mean;

const count = ({ mean, variance }: ChannelStatistics, check: Check): number =>
  mean.reduce((sum, value, at) => sum + Number(check(value, variance[at]!)), 0);

/** Counts varying channels whose mean and variance equal those of another. */
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
