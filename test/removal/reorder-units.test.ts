import { createRandom, drawPermutation } from '../../src/linalg/random.js';
import { copyModel } from '../../src/onnx/edit-weights.js';
import { readFloat32 } from '../../src/onnx/float-encoding.js';
import { reorderUnits } from '../../src/removal/reorder-units.js';
import { buildDecoder, HIDDEN, linear, NEURONS, type Part } from '../support/small-decoder.js';
import { loadTinyLlama, relativeGap, runModel } from '../support/tiny-llama.js';

/** Gate and up in one weight, one after the other. */
const joinedFfn: Part = ({ g }, x) => {
  const both = linear(g, x, HIDDEN, 2 * NEURONS);
  const [gate, up] = g.ops('Split', [both, g.ints(NEURONS, NEURONS)], 2, { axis: 2 }) as [string, string];
  return linear(g, g.op('Mul', [g.op('Sigmoid', [gate]), up]), NEURONS, HIDDEN);
};

const windows = [Int32Array.from([1, 7, 3, 9, 30, 2]), Int32Array.from([4, 4, 20, 11, 0, 39])];

it.each([
  ['in separate weights', undefined],
  ['in one weight', joinedFfn],
])('reorders neurons with gate and up %s as requested, with the same logits', async (_, ffn) => {
  const { model, analysed } = await loadTinyLlama(buildDecoder(ffn && { ffn }));
  const ordered = copyModel(model);
  const found = analysed.detected.layout.modules.filter(({ kind }) => kind === 'ffn');
  expect(found).toHaveLength(2);
  for (const { index, unitCount, output } of found) {
    const order = drawPermutation(createRandom(index), unitCount);
    const moved = reorderUnits(ordered, analysed.detected, { module: index, order });
    expect(moved.get(output.weight)).toEqual({ axis: output.inputAxis, from: order });
    const [before, after] = await Promise.all(
      [model, ordered].map(({ weights }) => readFloat32(weights.get(output.weight)!)),
    );
    // Rows of [neurons, hidden].
    for (const [at, unit] of order.entries())
      expect(after!.subarray(at * HIDDEN, (at + 1) * HIDDEN)).toEqual(
        before!.subarray(unit * HIDDEN, (unit + 1) * HIDDEN),
      );
  }
  const [expected, actual] = [await runModel(model, windows), await runModel(ordered, windows)];
  expect(relativeGap(actual.logits!.data as Float32Array, expected.logits!.data as Float32Array)).toBeLessThan(1e-5);
});

it('does not change a module with shared weights', async () => {
  let shared: string | undefined;
  const sharingFfn: Part = ({ g }, x) => {
    shared ??= g.weight([HIDDEN, NEURONS]);
    return linear(g, g.op('Relu', [g.op('MatMul', [x, shared])]), NEURONS, HIDDEN);
  };
  const { model, analysed } = await loadTinyLlama(buildDecoder({ ffn: sharingFfn }));
  const [ffn] = analysed.detected.layout.modules.filter(({ kind }) => kind === 'ffn');
  const before = new Map(model.weights);
  const order = Int32Array.from({ length: NEURONS }, (_, at) => NEURONS - 1 - at);
  expect(reorderUnits(model, analysed.detected, { module: ffn!.index, order }).size).toBe(0);
  expect(model.weights).toEqual(before);
});
