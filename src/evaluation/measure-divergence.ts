import { sha256OfTokens } from '../calibration/sha256.js';
import { checkTokenIds, type TokenIds } from '../calibration/token-source.js';
import { NumericalError, OptionError } from '../errors.js';
import { sum } from '../linalg/sum.js';
import type { JobControl } from '../progress.js';
import type { Engine } from '../runtime/engine.js';
import { type Interval, intervalOfMean } from './change-interval.js';
import { type LogitsTensor, logitRows } from './decoder.js';
import { createDivergenceScorer, type DivergenceScorer } from './divergence-scorer.js';
import type { LanguageModel } from './language-model.js';
import type { PerplexityProtocol } from './perplexity.js';
import type { ScoreLog } from './score-log.js';
import { cutScoredWindows, resolveWindows, type WindowOptions } from './scored-windows.js';

export interface DivergenceOptions extends Omit<WindowOptions, 'stride' | 'batchSize'>, JobControl {
  /** Log of window scores, from which an interrupted run resumes. Default: none. */
  readonly log?: ScoreLog<DivergenceScore> | undefined;
}

/** Divergence of two models on one window. */
export interface DivergenceScore {
  /** Index of the window in the text. */
  readonly index: number;
  /** Sum of KL(reference || model) over the positions, in nats. */
  readonly divergence: number;
  /** Number of positions with the same top-1 token. */
  readonly agreementCount: number;
  readonly tokenCount: number;
}

export interface DivergenceResult {
  /** Mean KL(reference || model) of the next token's distribution, in nats; 0 for the same model. */
  readonly klDivergence: number;
  /** Fraction of positions with the same top-1 token. */
  readonly top1Agreement: number;
  /** 95 % intervals of both, from the variance between windows; absent for fewer than three windows. */
  readonly intervals?: { readonly klDivergence: Interval; readonly top1Agreement: Interval };
  readonly protocol: PerplexityProtocol;
}

/** The two models to compare, and the engine. */
export interface DivergenceModels {
  readonly model: LanguageModel;
  readonly reference: LanguageModel;
  readonly engine: Engine;
}

/**
 * Measures the divergence of a model's predictions from a reference's over the windows of a text.
 *
 * @param ids Token ids with the same meaning in both models.
 * @throws OptionError for too few tokens, options out of range, or models of different vocabularies.
 * @throws NumericalError when logits are not finite.
 */
export async function measureDivergence(
  { model, reference, engine }: DivergenceModels,
  ids: TokenIds,
  options: DivergenceOptions = {},
): Promise<DivergenceResult> {
  const { log, onProgress, signal } = options;
  const tokens = checkTokenIds(ids, { vocabularySize: commonVocabulary(model, reference), place: 'the text' });
  const { windowLength, leadingTokens } = resolveWindows({ ...options, batchSize: 1 }, tokens.length);
  const shape = { windowLength, stride: windowLength, leadingTokens };
  const windows = cutScoredWindows(tokens, shape).slice(0, options.windowCount);
  const scores = new Map([...(log?.known ?? [])].filter(([index]) => index < windows.length));
  const report = () => onProgress?.({ stage: 'divergence', done: scores.size, total: windows.length });
  report();
  let scorer: DivergenceScorer | undefined;
  try {
    for (const [index, window] of windows.entries()) {
      signal?.throwIfAborted();
      if (scores.has(index)) continue;
      const [found, expected] = [await readRows(model, window.tokens), await readRows(reference, window.tokens)];
      checkVocabularies(found, expected);
      scorer ??= await createDivergenceScorer(engine, { reference: expected.type, model: found.type });
      const score = { index, ...(await compareRows(scorer, expected, found)) };
      await log?.add([score]);
      scores.set(index, score);
      report();
    }
  } finally {
    await scorer?.release();
  }
  const all = windows.map((_, index) => scores.get(index)!);
  const sumOf = (pick: (score: DivergenceScore) => number) => all.reduce((sum, score) => sum + pick(score), 0);
  const tokenCount = sumOf((score) => score.tokenCount);
  const intervalOf = (pick: (score: DivergenceScore) => number) =>
    intervalOfMean(all.map((score) => ({ sum: pick(score), tokenCount: score.tokenCount })));
  const klInterval = intervalOf(({ divergence }) => divergence);
  const agreementInterval = intervalOf(({ agreementCount }) => agreementCount);
  return {
    klDivergence: sumOf(({ divergence }) => divergence) / tokenCount,
    top1Agreement: sumOf(({ agreementCount }) => agreementCount) / tokenCount,
    ...(klInterval &&
      agreementInterval && { intervals: { klDivergence: klInterval, top1Agreement: agreementInterval } }),
    protocol: {
      tokensSha256: await sha256OfTokens([tokens]),
      windowLength,
      stride: windowLength,
      ...(leadingTokens.length > 0 && { leadingTokens }),
      windowCount: windows.length,
      tokenCount,
    },
  };
}

/** Logits as `[S, V]`. */
async function readRows(model: LanguageModel, tokens: Int32Array): Promise<LogitsTensor> {
  return logitRows(await model.readLogits([tokens]), 0, tokens.length);
}

async function compareRows(scorer: DivergenceScorer, reference: LogitsTensor, model: LogitsTensor) {
  const { divergence, agrees } = await scorer.score(reference, model);
  const total = sum(divergence);
  if (!Number.isFinite(total)) {
    throw new NumericalError("the models' logits are not finite; check their weights, or run them in float32");
  }
  return {
    divergence: total,
    agreementCount: sum(agrees),
    tokenCount: divergence.length,
  };
}

/** Upper bound of ids: the smaller declared vocabulary. */
function commonVocabulary(...models: readonly LanguageModel[]): number {
  return Math.min(...models.map(({ vocabularySize }) => vocabularySize ?? Number.POSITIVE_INFINITY));
}

function checkVocabularies(model: LogitsTensor, reference: LogitsTensor): void {
  const [own, other] = [model.dims.at(-1), reference.dims.at(-1)];
  if (own === other) return;
  throw new OptionError(
    `the model has ${own} tokens in its vocabulary and the reference ${other}; compare models of one vocabulary`,
  );
}
