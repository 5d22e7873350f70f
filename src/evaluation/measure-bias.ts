import { sum } from '../linalg/sum.js';
import { findOverlap, type Overlap } from './find-overlap.js';

/** Windows of a text with the losses of two models on them. */
export interface ScoredText {
  /** Of equal length. */
  readonly windows: readonly Int32Array[];
  /** Losses of the dense and the pruned model, `[windows, length - 1]`, as `measureTokenLosses` returns them. */
  readonly dense: Float32Array;
  readonly pruned: Float32Array;
}

export interface BiasInput {
  readonly calibration: ScoredText;
  /** All calibration windows, if `calibration` is only a part of them. */
  readonly calibratedOn?: readonly Int32Array[] | undefined;
  readonly text: ScoredText;
  readonly contextCount: number;
  /** Context of every token: the calibration windows' first, then the text's. */
  readonly contextOfToken: Int32Array;
}

/** Mean losses over some tokens, in nats per token. */
export interface LossPair {
  /** Tokens scored. */
  readonly tokenCount: number;
  readonly dense: number;
  readonly pruned: number;
  /** Standard error of `pruned - dense`, assuming independent tokens; absent for a single token. */
  readonly standardError?: number;
}

/** Losses in one context. */
export interface ContextBias {
  readonly calibration?: LossPair;
  readonly text?: LossPair;
  /** Fraction of the text's total loss increase in this context; below 0 if the pruned model is better there. */
  readonly lostShare: number;
  /** Whether the context's share of the calibration is at least a quarter of its share of the text. */
  readonly covered: boolean;
}

/** Loss from pruning on the calibration text, and on another one. */
export interface BiasFindings {
  readonly calibration: LossPair;
  readonly text: LossPair;
  readonly contexts: readonly ContextBias[];
  /** Fractions in contexts that are not covered: of the text's loss increase, of the text, of the calibration. */
  readonly uncovered: { readonly lost: number; readonly text: number; readonly calibration: number };
  readonly overlap: Overlap;
  /** Warnings as sentences; empty if nothing is suspicious. */
  readonly warnings: readonly string[];
}

/** A context is not covered if its share of the calibration is below this fraction of its share of the text. */
const COVERAGE_LIMIT = 0.25;
/** Least fraction of the loss increase in uncovered contexts for a warning ... */
const LOST_LIMIT = 0.25;
/** ... and least loss increase per token there, as a multiple of the calibration text's: an even increase is no bias. */
const EXCESS_LIMIT = 1.25;
/** Largest fraction of shared passages without a warning. */
const OVERLAP_LIMIT = 0.01;

/**
 * Compares the loss increase from pruning on calibration text and on another text, context by context. The context of a
 * prediction is that of the last token read.
 */
export function measureBias(input: BiasInput): BiasFindings {
  const { calibration, calibratedOn = calibration.windows, text, contextCount, contextOfToken } = input;
  const calibrationCount = countTokens(calibration.windows);
  const byContext = {
    calibration: splitByContext(calibration, contextOfToken.subarray(0, calibrationCount), contextCount),
    text: splitByContext(text, contextOfToken.subarray(calibrationCount), contextCount),
  };
  const whole = { calibration: lossesOf(calibration, undefined), text: lossesOf(text, undefined) };
  const lost = (losses: LossPair | undefined) =>
    losses === undefined ? 0 : losses.tokenCount * (losses.pruned - losses.dense);
  const share = (losses: LossPair | undefined, of: LossPair) => (losses?.tokenCount ?? 0) / of.tokenCount;
  const contexts = Array.from({ length: contextCount }, (_, context): ContextBias => {
    const own = { calibration: byContext.calibration[context], text: byContext.text[context] };
    return {
      ...(own.calibration && { calibration: own.calibration }),
      ...(own.text && { text: own.text }),
      lostShare: ratio(lost(own.text), lost(whole.text)),
      covered: share(own.calibration, whole.calibration) >= COVERAGE_LIMIT * share(own.text, whole.text),
    };
  });
  const uncoveredContexts = contexts.filter(({ covered }) => !covered);
  const findings = {
    ...whole,
    contexts,
    uncovered: {
      lost: sum(uncoveredContexts.map(({ lostShare }) => lostShare)),
      text: sum(uncoveredContexts.map((context) => share(context.text, whole.text))),
      calibration: sum(uncoveredContexts.map((context) => share(context.calibration, whole.calibration))),
    },
    overlap: findOverlap(text.windows, calibratedOn),
  };
  return { ...findings, warnings: [...warnOfBias(findings), ...warnOfOverlap(findings)] };
}

function warnOfBias({ calibration, text, contexts, uncovered }: Omit<BiasFindings, 'warnings'>): string[] {
  const gap = ({ dense, pruned }: LossPair) => pruned - dense;
  const uncoveredGap = ratio(uncovered.lost * gap(text), uncovered.text);
  const isCertain = gap(text) > 2 * (text.standardError ?? 0);
  if (!isCertain || uncovered.lost < LOST_LIMIT || uncoveredGap < EXCESS_LIMIT * gap(calibration)) return [];
  const numbers = contexts.flatMap(({ covered }, context) => (covered ? [] : [context + 1]));
  return [
    `${percent(uncovered.lost)} of the loss increase on the text is in contexts that contain ${percent(uncovered.text)} of its tokens and ` +
      `${percent(uncovered.calibration)} of the calibration's (${numbers.join(', ')}): add text like it to the calibration`,
  ];
}

function warnOfOverlap({ overlap }: Omit<BiasFindings, 'warnings'>): string[] {
  const share = ratio(overlap.sharedCount, overlap.tokenCount);
  if (share < OVERLAP_LIMIT) return [];
  return [
    `${percent(share)} of the text is in the calibration text too (runs of ${overlap.passageLength} tokens or more): its ` +
      'results are optimistic; evaluate on text that pruning has not read',
  ];
}

function splitByContext(
  scored: ScoredText,
  contextOfToken: Int32Array,
  contextCount: number,
): (LossPair | undefined)[] {
  const length = scored.windows[0]?.length ?? 1;
  const positions = Array.from({ length: contextCount }, () => [] as number[]);
  for (let at = 0; at < scored.dense.length; at++) {
    const window = Math.floor(at / (length - 1));
    // Loss `at` is that of the token after position `at`.
    positions[contextOfToken[window * length + (at % (length - 1))]!]!.push(at);
  }
  return positions.map((own) => (own.length === 0 ? undefined : lossesOf(scored, own)));
}

/** @param positions Losses to average; undefined = all. */
function lossesOf({ dense, pruned }: ScoredText, positions: readonly number[] | undefined): LossPair {
  const tokenCount = positions?.length ?? dense.length;
  const sums = { dense: 0, pruned: 0, squares: 0 };
  for (let i = 0; i < tokenCount; i++) {
    const at = positions?.[i] ?? i;
    sums.dense += dense[at]!;
    sums.pruned += pruned[at]!;
    sums.squares += (pruned[at]! - dense[at]!) ** 2;
  }
  const gap = (sums.pruned - sums.dense) / tokenCount;
  const variance = Math.max(0, sums.squares - tokenCount * gap * gap) / (tokenCount - 1);
  return {
    tokenCount,
    dense: sums.dense / tokenCount,
    pruned: sums.pruned / tokenCount,
    ...(tokenCount > 1 && { standardError: Math.sqrt(variance / tokenCount) }),
  };
}

function countTokens(windows: readonly Int32Array[]): number {
  return windows.reduce((sum, { length }) => sum + length, 0);
}

/** 0 for a whole of 0. */
function ratio(part: number, whole: number): number {
  return whole === 0 ? 0 : part / whole;
}

function percent(fraction: number): string {
  return `${(100 * fraction).toFixed(1)} %`;
}
