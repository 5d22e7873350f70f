import { runForLogits } from '../../evaluation/compare-logits.js';
import { createDivergenceScorer } from '../../evaluation/divergence-scorer.js';
import type { UnderstoodModel } from '../../healing/heal-model.js';
import type { Engine } from '../../runtime/engine.js';

/** Where models are compared. */
export interface ComparisonSite {
  readonly engine: Engine;
  /** Of one length, at least one. */
  readonly windows: readonly Int32Array[];
  readonly signal?: AbortSignal | undefined;
}

/**
 * How far models' predictions are from a reference's: the mean of KL(reference || model) over all positions, in nats a token,
 * for each model. One window's logits of two models are in memory at a time.
 */
export async function measureDivergences(
  reference: UnderstoodModel,
  models: readonly UnderstoodModel[],
  { engine, windows, signal }: ComparisonSite,
): Promise<number[]> {
  const scorer = await createDivergenceScorer(engine, { reference: 'float32', model: 'float32' });
  const sums = models.map(() => 0);
  let tokenCount = 0;
  const width = reference.analysed.detected.layout.vocabularySize;
  const read = async (model: UnderstoodModel, window: Int32Array) => {
    const data = await runForLogits({ ...model, engine, windows: [window], signal });
    return { type: 'float32', dims: [data.length / width, width], data } as const;
  };
  try {
    for (const window of windows) {
      const expected = await read(reference, window);
      for (const [at, model] of models.entries()) {
        const { divergence } = await scorer.score(expected, await read(model, window));
        sums[at]! += divergence.reduce((sum, value) => sum + value, 0);
      }
      tokenCount += expected.dims[0];
    }
    return sums.map((sum) => sum / tokenCount);
  } finally {
    await scorer.release();
  }
}
