import { createCalibrationSet } from '../../src/calibration/calibration-set.js';
import { nodePlatform, openModelFolder } from '../../src/node.js';
import { indexGraph } from '../../src/onnx/graph-index.js';
import { TOKENS_PER_BATCH } from '../../src/prune/prune-context.js';
import { analyseModel } from '../../src/runtime/analyse-model.js';
import { makeBatches } from '../../src/runtime/block-runner.js';
import { compileStage } from '../../src/runtime/compile-stage.js';
import type { Engine } from '../../src/runtime/engine.js';
import { lowerForRun } from '../../src/runtime/lower-for-run.js';
import { prefillFeeds } from '../../src/runtime/prefill-feeds.js';
import { findTokenizer } from '../../src/storage/load-tokenizer.js';
import { openTextSource } from '../../src/storage/read-text.js';
import type { BenchRun, BenchTask } from './bench-task.js';
import { measureCost } from './measure-cost.js';

/** What a bare forward pass computes: the model whole, logits handed out, or embedding and blocks without the LM head. */
export type BareExtent = 'model' | 'blocks';

/** The yardstick: the model in one session, over the windows that pruning sees. Loading the session is not counted. */
export async function runBare(
  { model: path, calibration }: BenchTask,
  engine: Engine,
  extent: BareExtent,
): Promise<Omit<BenchRun, 'peakBytes'>> {
  const folder = await openModelFolder(path);
  try {
    const model = await folder.load();
    const { detected, facts, inputs } = await analyseModel(model, engine);
    const { source, windowCount = 64, windowLength = 512 } = calibration;
    if (source === undefined || !('file' in source)) throw new Error('the benchmark needs a text file');
    const { windows } = await createCalibrationSet({
      source: await openTextSource(nodePlatform.files, source.file),
      tokenizer: await findTokenizer(folder),
      vocabularySize: detected.layout.vocabularySize,
      windowCount,
      windowLength,
    });
    const batches = makeBatches(windows, Math.max(1, Math.round(TOKENS_PER_BATCH / windowLength)));
    const graph = model.proto.graph!;
    // As the model runs anywhere else: with the guards that pruning spares.
    const index = indexGraph({ ...graph, node: lowerForRun(graph) });
    const { session, inputs: names } = await compileStage({
      engine,
      model,
      index,
      isAvailable: (value) => index.inputs.has(value),
      fetches: [extent === 'model' ? detected.layout.logits : detected.partition.cuts.at(-1)!],
      facts,
    });
    const fed = inputs.filter(({ name }) => names.includes(name));
    const { wallMs, cpuMs } = await measureCost(async () => {
      for (const batch of batches) await session.run(prefillFeeds(fed, batch, batch.tokens));
    });
    await session.release();
    return { stages: [], wallMs, cpuMs };
  } finally {
    await folder.close();
  }
}
