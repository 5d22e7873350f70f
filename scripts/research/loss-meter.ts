import { findLeadingTokens } from '../../src/calibration/leading-tokens.js';
import type { Tokenizer } from '../../src/calibration/tokenizer.js';
import { openLogits } from '../../src/evaluation/compare-logits.js';
import { logitRows } from '../../src/evaluation/decoder.js';
import { cutScoredWindows } from '../../src/evaluation/scored-windows.js';
import { createTokenScorer } from '../../src/evaluation/token-scorer.js';
import { nodePlatform } from '../../src/node.js';
import type { UnderstoodModel } from '../../src/runtime/analyse-model.js';
import type { Engine } from '../../src/runtime/engine.js';
import { tensorFloats } from '../../src/runtime/tensor-floats.js';
import { releaseTensor } from '../../src/runtime/tensor-memory.js';
import { readText } from '../../src/storage/read-text.js';

export interface LossRequest {
  readonly engine: Engine;
  readonly tokenizer: Tokenizer;
  /** Files. */
  readonly texts: readonly string[];
  readonly windowLength: number;
  /** Windows of each text, from its start. */
  readonly windowCount: number;
}

/** Reads texts, and returns a function that measures a model's mean of -ln p over the tokens of each text, in nats. */
export async function openLossMeter({ engine, tokenizer, texts, windowLength, windowCount }: LossRequest) {
  const leadingTokens = findLeadingTokens(tokenizer);
  const scored: Int32Array[][] = [];
  for (const file of texts) {
    const tokens = tokenizer.encode(await readText(nodePlatform.files, file), { enough: 40 * windowLength });
    const cut = cutScoredWindows(tokens, { windowLength, stride: windowLength, leadingTokens });
    scored.push(cut.slice(0, windowCount).map((window) => window.tokens));
  }
  return async (understood: UnderstoodModel): Promise<number[]> => {
    const scorer = await createTokenScorer(engine, 'float32');
    const losses: number[] = [];
    for (const windows of scored) {
      const source = await openLogits({ ...understood, engine, windows }, { windowsAtOnce: 1 });
      let [sum, count, at] = [0, 0, 0];
      for await (const logits of source.logits()) {
        const width = logits.dims.at(-1)!;
        const dims = [logits.data.length / width, width];
        const rows = { type: 'float32', dims, data: tensorFloats(logits, 'logits') } as const;
        const targets = windows[at++]!.subarray(1);
        for (const loss of await scorer.score(logitRows(rows, 0, targets.length), targets)) sum += loss;
        count += targets.length;
        releaseTensor(logits);
      }
      await source.dispose();
      losses.push(sum / count);
    }
    await scorer.release();
    return losses;
  };
}
