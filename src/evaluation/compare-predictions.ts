import { NumericalError, OptionError } from '../errors.js';
import { sum } from '../linalg/sum.js';
import type { JobControl } from '../progress.js';
import type { Engine } from '../runtime/engine.js';
import { releaseTensor } from '../runtime/tensor-memory.js';
import type { TensorStore } from '../runtime/tensor-store.js';
import { type Interval, intervalOfDifference, intervalOfMean, type WindowSum } from './change-interval.js';
import { type LogitsTensor, logitRows } from './decoder.js';
import { createDivergenceScorer, type DivergenceScorer } from './divergence-scorer.js';
import type { LanguageModel } from './language-model.js';
import { createTokenScorer, type TokenScorer } from './token-scorer.js';

/** Inputs of both models, and the engine. */
export interface PredictionSite extends Pick<JobControl, 'signal'> {
  readonly engine: Engine;
  /** Of equal length, at least 2 tokens. */
  readonly windows: readonly Int32Array[];
  /** Windows that the model reads in one run. Default 1. */
  readonly windowsAtOnce?: number | undefined;
  /** Called after each window. */
  readonly onWindow?: (() => void) | undefined;
}

/** Predictions of the dense model on some windows. */
export interface ReferencePredictions {
  /** Sums of -ln p over the tokens of each window but its first, in nats. */
  readonly losses: readonly WindowSum[];
  /** Logits of each window, `[length, vocabulary]`. */
  readonly logits: TensorStore;
}

/** How a model's predictions compare with the dense one's. */
export interface PredictionComparison {
  readonly perplexity: {
    readonly dense: number;
    readonly pruned: number;
    /** 95 % interval of `pruned / dense - 1`, from paired windows; absent for fewer than three. */
    readonly changeInterval?: Interval;
  };
  /** Mean of KL(dense || pruned) of the next token, in nats. */
  readonly divergence: { readonly mean: number; readonly interval?: Interval };
  /** Fraction of positions where both models have the same top-1 token. */
  readonly top1Agreement: { readonly mean: number; readonly interval?: Interval };
}

/** Runs the dense model on windows and stores its logits. @throws NumericalError, EngineError */
export async function readReference(
  model: LanguageModel,
  store: TensorStore,
  site: PredictionSite,
): Promise<ReferencePredictions> {
  const { engine, onWindow } = site;
  const losses: WindowSum[] = [];
  let scorer: TokenScorer | undefined;
  try {
    for await (const { at, window, rows } of readWindows(model, site)) {
      scorer ??= await createTokenScorer(engine, rows.type);
      losses.push(await sumLosses(scorer, rows, window));
      await store.put(at, rows);
      onWindow?.();
    }
    return { losses, logits: store };
  } finally {
    await scorer?.release();
  }
}

/**
 * Runs a pruned model on the same windows as the dense one, and compares their predictions. In memory are the logits of
 * one run of the pruned model and of one window of the dense one.
 * @throws NumericalError, EngineError; OptionError for models of different vocabularies.
 */
export async function comparePredictions(
  model: LanguageModel,
  reference: ReferencePredictions,
  site: PredictionSite,
): Promise<PredictionComparison> {
  const { engine, onWindow } = site;
  const losses: WindowSum[] = [];
  const divergences: WindowSum[] = [];
  const agreements: WindowSum[] = [];
  let scorers: { readonly tokens: TokenScorer; readonly divergence: DivergenceScorer } | undefined;
  try {
    for await (const { at, window, rows: found } of readWindows(model, site)) {
      const expected = (await reference.logits.get(at)) as LogitsTensor;
      checkVocabularies(found, expected);
      scorers ??= {
        tokens: await createTokenScorer(engine, found.type),
        divergence: await createDivergenceScorer(engine, { reference: expected.type, model: found.type }),
      };
      losses.push(await sumLosses(scorers.tokens, found, window));
      const { divergence, agrees } = await scorers.divergence.score(expected, found);
      divergences.push({ sum: checkFinite(sum(divergence)), tokenCount: window.length });
      agreements.push({ sum: sum(agrees), tokenCount: window.length });
      onWindow?.();
    }
  } finally {
    await scorers?.tokens.release();
    await scorers?.divergence.release();
  }
  return {
    perplexity: perplexitiesOf(reference.losses, losses),
    divergence: describeMean(divergences),
    top1Agreement: describeMean(agreements),
  };
}

function perplexitiesOf(dense: readonly WindowSum[], pruned: readonly WindowSum[]): PredictionComparison['perplexity'] {
  const interval = intervalOfDifference(dense, pruned);
  return {
    dense: Math.exp(meanOf(dense)),
    pruned: Math.exp(meanOf(pruned)),
    ...(interval && { changeInterval: [Math.expm1(interval[0]), Math.expm1(interval[1])] as const }),
  };
}

function describeMean(windows: readonly WindowSum[]): { readonly mean: number; readonly interval?: Interval } {
  const interval = intervalOfMean(windows);
  return { mean: meanOf(windows), ...(interval && { interval }) };
}

const countTokens = (windows: readonly WindowSum[]): number =>
  windows.reduce((all, { tokenCount }) => all + tokenCount, 0);

const meanOf = (windows: readonly WindowSum[]): number =>
  windows.reduce((all, { sum }) => all + sum, 0) / countTokens(windows);

/** Logits of each window as `[S, V]`, released when the next ones are requested. */
async function* readWindows(model: LanguageModel, { windows, windowsAtOnce = 1, signal }: PredictionSite) {
  for (let start = 0; start < windows.length; start += windowsAtOnce) {
    signal?.throwIfAborted();
    const read = windows.slice(start, start + windowsAtOnce);
    const logits = await model.readLogits(read);
    for (const [row, window] of read.entries()) {
      const { length } = window;
      const rows: LogitsTensor = logitRows(logits, row * length, (row + 1) * length);
      yield { at: start + row, window, rows };
    }
    releaseTensor(logits);
  }
}

/** -ln p of every token but the first. */
async function sumLosses(scorer: TokenScorer, rows: LogitsTensor, window: Int32Array): Promise<WindowSum> {
  const scores = await scorer.score(logitRows(rows, 0, window.length - 1), window.subarray(1));
  return { sum: checkFinite(sum(scores)), tokenCount: scores.length };
}

function checkFinite(value: number): number {
  if (Number.isFinite(value)) return value;
  throw new NumericalError("the model's logits are not finite; check its weights, or run it in float32");
}

function checkVocabularies(found: LogitsTensor, expected: LogitsTensor): void {
  const [own, other] = [found.dims.at(-1), expected.dims.at(-1)];
  if (own !== other)
    throw new OptionError(`the models have ${other} and ${own} logits; compare models of one vocabulary`);
}
