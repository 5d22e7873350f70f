import { type ModelInput, readModelInputs } from '../../src/onnx/model-inputs.js';
import type { OnnxModel } from '../../src/onnx/onnx-model.js';
import type { PruneOptions } from '../../src/options.js';
import type { PruneOutcome } from '../../src/prune/job.js';
import { maskModel } from '../../src/removal/mask-model.js';
import { storeInMemory } from '../../src/removal/repair-linear.js';
import type { Tensor, Tensors } from '../../src/runtime/engine.js';
import { prefillFeeds } from '../../src/runtime/prefill-feeds.js';
import { testEngine } from './engine.js';
import { bytesOf, type Loaded, pruneLoaded, relativeGap } from './tiny-llama.js';

/** How a pruned model compares with what it should be; gaps are fractions of the logits' range. */
export interface PruningCheck {
  readonly outcome: PruneOutcome;
  /** To the dense model with the removed channels zeroed and the repairs applied. */
  readonly maskedGap: number;
  /** Token by token through the KV cache to all tokens at once; 0 for a model without one. */
  readonly cacheGap: number;
}

/** Prunes a small model and compares the result with its masked original, and its cache with prefill. */
export async function checkPruning(
  loaded: Loaded,
  options: PruneOptions,
  vocabularySize: number,
): Promise<PruningCheck> {
  const windows = Array.from({ length: 3 }, (_, window) =>
    Int32Array.from({ length: 10 }, (_, at) => (window * 17 + at * at * 7 + at * 3) % vocabularySize),
  );
  const outcome = await pruneLoaded(loaded, options, { windows });
  const { logits } = loaded.analysed.detected.layout;
  const pruned = await prefill(outcome.model, logits, windows[0]!);
  return {
    outcome,
    maskedGap: relativeGap(
      pruned,
      await prefill(
        await maskModel(loaded.model, outcome, { analysed: loaded.analysed, store: storeInMemory }),
        logits,
        windows[0]!,
      ),
    ),
    cacheGap: hasCache(outcome.model) ? relativeGap(await stepByStep(outcome.model, logits, windows[0]!), pruned) : 0,
  };
}

const isCarried = ({ role }: ModelInput): boolean => role === 'past' || role === 'state';

const hasCache = ({ proto }: OnnxModel): boolean => readModelInputs(proto.graph!).some(isCarried);

async function prefill(model: OnnxModel, logits: string, tokens: Int32Array): Promise<Float32Array> {
  const session = await testEngine.load(await bytesOf(model));
  try {
    const size = { batchSize: 1, sequenceLength: tokens.length };
    const results = await session.run(prefillFeeds(readModelInputs(model.proto.graph!), size, tokens), [logits]);
    return results[logits]!.data as Float32Array;
  } finally {
    await session.release();
  }
}

/** Logits of one token at a time, each run fed with the cache that the run before returned. */
async function stepByStep(model: OnnxModel, logits: string, tokens: Int32Array): Promise<Float32Array> {
  const inputs = readModelInputs(model.proto.graph!);
  const caches = inputs.filter(isCarried);
  const presents = model.proto.graph!.output.map(({ name }) => name).filter((name) => name !== logits);
  const session = await testEngine.load(await bytesOf(model));
  const rows: number[] = [];
  let cache: Tensors = {};
  try {
    for (const [at, token] of tokens.entries()) {
      const feeds: Record<string, Tensor> = prefillFeeds(inputs, { batchSize: 1, sequenceLength: 1 }, [token]);
      for (const input of inputs.filter(({ role }) => role === 'attentionMask')) {
        Object.assign(feeds, prefillFeeds([input], { batchSize: 1, sequenceLength: at + 1 }));
      }
      for (const { name } of inputs.filter(({ role }) => role === 'positions'))
        (feeds[name]!.data as BigInt64Array).fill(BigInt(at));
      const results = await session.run({ ...feeds, ...cache });
      rows.push(...(results[logits]!.data as Float32Array));
      cache = Object.fromEntries(caches.map(({ name }, index) => [name, results[presents[index]!]!]));
    }
  } finally {
    await session.release();
  }
  return Float32Array.from(rows);
}
