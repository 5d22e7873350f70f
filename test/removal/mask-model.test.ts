import { createRandom } from '../../src/linalg/random.js';
import { readFloat32 } from '../../src/onnx/float-encoding.js';
import { maskModel } from '../../src/removal/mask-model.js';
import { storeInMemory } from '../../src/removal/repair-linear.js';
import { loadShortLlama } from '../support/short-llama.js';

// The rounding of a model without cuts is measured too.
it.each([
  ['one was cut', 1, 1],
  ['none was cut', 0, 4],
])('perturbs weights of output linear layers by less than 2^-22 if %s', async (_, cutCount, movedCount) => {
  const { model, analysed } = await loadShortLlama();
  const { modules } = analysed.detected.layout;
  const cuts = modules.slice(0, cutCount).map((module) => ({
    module,
    keep: Int32Array.from({ length: module.unitCount }, (_, unit) => unit),
  }));
  const options = { analysed, store: storeInMemory, nudge: createRandom(0) };
  const masked = await maskModel(model, { modules: cuts, changed: new Map() }, options);
  const moved = [...model.weights].filter(([name, handle]) => masked.weights.get(name) !== handle);
  expect(moved).toHaveLength(movedCount);
  for (const [name, handle] of moved) {
    const [before, after] = [await readFloat32(handle), await readFloat32(masked.weights.get(name)!)];
    const farthest = after.reduce((most, value, at) => Math.max(most, Math.abs(value / before[at]! - 1) || 0), 0);
    expect(farthest).toBeGreaterThan(0);
    expect(farthest).toBeLessThan(2 ** -22);
  }
});
