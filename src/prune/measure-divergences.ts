import { type LogitsSource, openLogits } from '../evaluation/compare-logits.js';
import type { LogitsTensor } from '../evaluation/decoder.js';
import { createDivergenceScorer, type DivergenceScorer } from '../evaluation/divergence-scorer.js';
import type { UnderstoodModel } from '../runtime/analyse-model.js';
import type { Engine, Tensor } from '../runtime/engine.js';
import { tensorFloats } from '../runtime/tensor-floats.js';
import { releaseTensor, retainTensor } from '../runtime/tensor-memory.js';

/** Engine and windows of a comparison of models. */
export interface Comparison {
  readonly engine: Engine;
  /** Of one length, at least one. */
  readonly windows: readonly Int32Array[];
  readonly signal?: AbortSignal | undefined;
  /** Called with the number of models that were run, including the reference. */
  readonly onModel?: ((count: number) => void) | undefined;
}

/** Most logits of a window that are compared: of more, only the beginning is read, of at least `MIN_TOKENS` tokens. */
const MAX_LOGITS = 2 ** 27;
const MIN_TOKENS = 64;

/**
 * Most logits of a model in memory (128 MiB), where positions can be computed separately. If the reference has more, they are
 * computed again for every model.
 */
const LOGITS_AT_ONCE = 2 ** 25;

/**
 * Mean of KL(reference || model) over all positions, in nats per token, for each model. The logits of two models are in memory
 * at a time.
 */
export async function measureDivergences(
  reference: UnderstoodModel,
  models: Iterable<UnderstoodModel> | AsyncIterable<UnderstoodModel>,
  comparison: Comparison,
): Promise<number[]> {
  const { engine } = comparison;
  const { vocabularySize } = reference.analysed.detected.layout;
  const windows = comparison.windows.map((window) =>
    window.subarray(0, Math.max(MIN_TOKENS, MAX_LOGITS / vocabularySize)),
  );
  const fitting = Math.max(1, Math.floor(MAX_LOGITS / vocabularySize / (windows[0]?.length ?? 1)));
  const windowsAtOnce = Math.min(windows.length, reference.analysed.rowLimit, fitting);
  const parts = { windowsAtOnce, positionsAtOnce: LOGITS_AT_ONCE / vocabularySize };
  const scorer = await createDivergenceScorer(engine, { reference: 'float32', model: 'float32' });
  const opened = await openLogits({ ...reference, ...comparison, windows }, parts);
  const isSmall = windows.reduce((sum, { length }) => sum + length * vocabularySize, 0) <= LOGITS_AT_ONCE;
  const expected = isSmall ? await holdLogits(opened) : opened;
  const found: number[] = [];
  try {
    for await (const model of models) {
      const compared = await openLogits({ ...model, ...comparison, windows }, parts);
      try {
        found.push(await meanDivergence(scorer, expected.logits(), compared.logits()));
      } finally {
        await compared.dispose();
      }
      comparison.onModel?.(1 + found.length);
    }
    return found;
  } finally {
    await Promise.all([scorer.release(), expected.dispose()]);
  }
}

/** Computes logits once, so that the LM heads of two models are not in memory together. */
async function holdLogits(source: LogitsSource): Promise<LogitsSource> {
  const held: Tensor[] = [];
  try {
    for await (const logits of source.logits()) held.push(logits);
  } finally {
    await source.dispose();
  }
  return {
    async *logits() {
      for (const logits of held) {
        retainTensor(logits);
        yield logits;
      }
    },
    async dispose() {
      held.forEach(releaseTensor);
    },
  };
}

async function meanDivergence(
  scorer: DivergenceScorer,
  expected: AsyncIterable<Tensor>,
  found: AsyncGenerator<Tensor>,
): Promise<number> {
  let [sum, tokenCount] = [0, 0];
  for await (const logits of expected) {
    const { value: other } = await found.next();
    const { divergence } = await scorer.score(asRows(logits), asRows(other as Tensor));
    for (const value of divergence) sum += value;
    tokenCount += divergence.length;
    releaseTensor(logits);
    releaseTensor(other as Tensor);
  }
  await found.return(undefined);
  return sum / tokenCount;
}

/** Logits `[windows, length, vocabulary]` row by row. */
function asRows(logits: Tensor): LogitsTensor {
  const width = logits.dims.at(-1)!;
  const data = tensorFloats(logits, "the model's logits");
  return { type: 'float32', dims: [data.length / width, width], data };
}
