import type { SizeCandidateReport } from '../../src/report/report-schema.js';

/** A model of one size, and its measurements. */
export interface MeasuredSize {
  /** A name of `VARIANTS`. */
  readonly variant: string;
  /** The size that was asked for, such as `92MB`; absent where a dtype decides. */
  readonly target?: string;
  /** Calibration windows of 512 tokens; absent where no text is read. */
  readonly windows?: number;
  /** Model file with its external data. */
  readonly bytes: number;
  /** Fraction of the prunable parameters that was removed. */
  readonly removed: number;
  /** Number of linear layers by dtype; absent for the dense model. */
  readonly maps?: Readonly<Record<string, number>>;
  /** Drafts that `shrink` compared. */
  readonly candidates?: readonly SizeCandidateReport[];
  /** By text. */
  readonly bitsPerByte: Readonly<Record<string, number>>;
  /** Accuracies by task, length-normalised. */
  readonly tasks?: Readonly<Record<string, number>>;
  readonly speed?: { readonly tokensPerSecond: number; readonly promptMs: number };
}

/** By variant and size. */
export type MeasuredSizes = Readonly<Record<string, MeasuredSize>>;

/** The name of a row. */
export const rowName = (variant: string, target: string | undefined): string =>
  target === undefined ? variant : `${variant}, ${target}`;
