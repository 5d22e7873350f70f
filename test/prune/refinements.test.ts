import { setWeight } from '../../src/onnx/edit-weights.js';
import { readFloat32 } from '../../src/onnx/float-encoding.js';
import type { OnnxModel } from '../../src/onnx/onnx-model.js';
import { floatsHandle } from '../../src/onnx/tensor-handle.js';
import { resolveOptions } from '../../src/options.js';
import { pruneModel } from '../../src/prune/prune-model.js';
import type { Refinement } from '../../src/prune/refinement.js';
import { REFINEMENTS } from '../../src/prune/refinements.js';
import { applyChange } from '../../src/removal/apply-change.js';
import { storeInMemory } from '../../src/removal/repair-linear.js';
import { createMemoryStore } from '../../src/runtime/tensor-store.js';
import { testEngine } from '../support/engine.js';
import { gapToMasked } from '../support/masked.js';
import { loadShortLlama } from '../support/short-llama.js';
import { bytesOf, type Loaded, someWindows } from '../support/tiny-llama.js';

let loaded: Loaded;
beforeAll(async () => {
  loaded = await loadShortLlama();
});

/** Halves every weight whose name matches, pruned or not. */
const halving = (fits: RegExp): Refinement => ({
  name: 'halving',
  passes: () => 0,
  async run(_, model: OnnxModel) {
    const names = [...model.weights.keys()].filter((name) => fits.test(name));
    const changed = new Map();
    for (const name of names) {
      const { dataType, dims } = model.weights.get(name)!;
      const values = await readFloat32(model.weights.get(name)!);
      changed.set(
        name,
        floatsHandle(
          { dataType, dims },
          values.map((value) => value / 2),
        ),
      );
    }
    for (const [name, handle] of changed) setWeight(model, name, handle);
    return changed;
  },
});

const job = (method: string, shots = 1) => ({
  ...loaded,
  engine: testEngine,
  windows: someWindows(4, 24),
  options: resolveOptions({ sparsity: 0.4, method, shots }),
  store: storeInMemory,
  createStore: createMemoryStore,
});

it.each([
  ['of pruned and unpruned weights', /norm.*weight|gate_proj|q_proj|MatMul/i, 1],
  ['in both of two shots', /norm.*weight|gate_proj|q_proj|MatMul/i, 2],
])('changes are in the masked original and the recipe: %s', async (_, fits, shots) => {
  const halve = halving(fits);
  const outcome = await pruneModel(job('flap', shots), { refinements: [...REFINEMENTS, halve] });
  const plain = await pruneModel(job('flap', shots));
  const names = [...outcome.model.weights.keys()].filter((name) => fits.test(name));
  expect(names.length).toBeGreaterThan(20);
  expect([...outcome.changed.keys()]).toEqual(expect.arrayContaining(names));
  expect(await gapToMasked(loaded, outcome)).toBeLessThan(1e-5);
  expect(await gapToMasked(loaded, { ...outcome, changed: plain.changed })).toBeGreaterThan(1e-3);
  if (shots > 1) return;
  const remade = applyChange(loaded.model, loaded.analysed, outcome);
  expect(Buffer.compare(await bytesOf(remade), await bytesOf(outcome.model))).toBe(0);
});
