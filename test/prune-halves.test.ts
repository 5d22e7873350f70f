import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { dataTypeNumber } from '../src/onnx/data-types.js';
import { decodeFloats, encodeFloats } from '../src/onnx/float-encoding.js';
import type { PruneOutcome } from '../src/prune/job.js';
import { FUSED_LLAMA, loadFusedLlama } from './support/short-llama.js';
import { editModel, loadTinyLlama, pruneLoaded } from './support/tiny-llama.js';

const { tokens } = JSON.parse(readFileSync('test/fixtures/golden-flap-run.json', 'utf8'));
const windows = Array.from({ length: 8 }, (_, row) => Int32Array.from(tokens.slice(row * 128, (row + 1) * 128)));

const [FLOAT, HALF] = [dataTypeNumber('float'), dataTypeNumber('float16')];

/** The model with every weight rounded to float16. */
const roundWeights = () =>
  editModel(readFileSync(join(FUSED_LLAMA, 'onnx/model.onnx')), ({ graph }) => {
    for (const tensor of graph!.initializer.filter(({ dataType }) => dataType === FLOAT)) {
      const halves = encodeFloats(HALF, decodeFloats(FLOAT, tensor.rawData.slice()));
      tensor.rawData = encodeFloats(FLOAT, decodeFloats(HALF, halves));
    }
  });

// With seed 7, starts of k-means drawn from cumulated weights lead the two models to different contexts in block 5.
describe('o-fang of a model with weights in float32 and rounded to float16', () => {
  let full: PruneOutcome;
  let rounded: PruneOutcome;
  beforeAll(async () => {
    const options = { sparsity: 0.3, modules: 'ffn', method: 'o-fang', seed: 7 } as const;
    full = await pruneLoaded(await loadFusedLlama(), options, { windows });
    rounded = await pruneLoaded(await loadTinyLlama(roundWeights()), options, { windows });
  });

  it('finds the same contexts for more than 95 % of the tokens', () => {
    const contextsOf = ({ dense }: PruneOutcome) => [...dense.functional.values()].map(({ contexts }) => contexts);
    contextsOf(full).forEach(({ contextOfToken }, block) => {
      const other = contextsOf(rounded)[block]!.contextOfToken;
      const moved = contextOfToken.filter((context, token) => context !== other[token]);
      expect(moved.length).toBeLessThan(0.05 * contextOfToken.length);
    });
  });

  it('keeps the same neurons, for more than 94 % of them', () => {
    full.modules.forEach(({ keep }, at) => {
      const other = new Set(rounded.modules[at]!.keep);
      expect(keep.filter((unit) => other.has(unit)).length).toBeGreaterThan(0.94 * keep.length);
    });
  });
});
