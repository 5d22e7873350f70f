import { loadModel } from '../../src/onnx/load-model.js';
import { bytesSource, createMemoryFolder } from '../../src/onnx/memory-folder.js';
import type { OnnxModel } from '../../src/onnx/onnx-model.js';
import { editGraph } from '../../src/removal/graph-editor.js';
import { tidyModel } from '../../src/removal/tidy-model.js';
import { testEngine } from '../support/engine.js';
import { createGraphBuilder } from '../support/graph-builder.js';
import { bytesOf } from '../support/tiny-llama.js';

/** y = x a, or x a + x b in a branch that reads x, a product and a weight from outside. */
async function branching(): Promise<{ model: OnnxModel; names: Record<'a' | 'b' | 'product' | 'inside', string> }> {
  const g = createGraphBuilder();
  const x = g.input('x', 1, ['rows', 2]);
  const isOn = g.input('is_on', 9, [1]);
  const [a, b] = [g.floats([2, 2], [1, 2, 3, 4]), g.floats([2, 2], [5, 6, 7, 8])];
  const product = g.op('MatMul', [x, a]);
  let inside = '';
  const chosen = g.choose(isOn, {
    // biome-ignore lint/suspicious/noThenProperty: the branch's name in ONNX
    then: () => {
      inside = g.op('MatMul', [x, b]);
      return g.op('Add', [product, inside]);
    },
    else: () => g.op('Identity', [product]),
  });
  g.named('y', 'Identity', [chosen]);
  g.output('y', 1, ['rows', 2]);
  const model = await loadModel(bytesSource('model.onnx', g.bytes()), createMemoryFolder('none'));
  return { model, names: { a, b, product, inside } };
}

async function run(model: OnnxModel): Promise<number[][]> {
  const session = await testEngine.load(await bytesOf(model));
  const x = { type: 'float32', dims: [1, 2], data: Float32Array.of(1, 1) } as const;
  const results = [];
  for (const on of [1, 0]) {
    const { y } = await session.run({ x, is_on: { type: 'bool', dims: [1], data: Uint8Array.of(on) } });
    results.push([...(y!.data as Float32Array)]);
  }
  await session.release();
  return results;
}

describe('editGraph', () => {
  it('counts an If among the consumers of values that its branches capture', async () => {
    const { model, names } = await branching();
    const editor = editGraph(model);
    expect(editor.consumersOf(names.b).map(({ opType }) => opType)).toEqual(['If']);
    expect(editor.consumersOf(names.product).map(({ opType }) => opType)).toEqual(['If']);
    expect(editor.consumersOf('x').map(({ opType }) => opType)).toEqual(['MatMul', 'If']);
  });

  it('rewires values that branches capture', async () => {
    const { model, names } = await branching();
    expect(await run(model)).toEqual([
      [16, 20],
      [4, 6],
    ]);
    const editor = editGraph(model);
    editor.rewire(editor.consumersOf(names.b), names.b, names.a);
    expect(await run(model)).toEqual([
      [8, 12],
      [4, 6],
    ]);
  });

  it('returns no name that a branch uses', async () => {
    const { model, names } = await branching();
    expect(editGraph(model).freshName(names.inside)).toBe(`${names.inside}_2`);
  });
});

describe('tidyModel', () => {
  it('keeps weights that only a branch reads', async () => {
    const { model, names } = await branching();
    tidyModel(model);
    expect(model.proto.graph!.initializer.map(({ name }) => name)).toEqual([names.a, names.b]);
    expect([...model.weights.keys()]).toEqual([names.a, names.b]);
  });
});

it('shares equal integer constants across edits', async () => {
  const { model } = await branching();
  const names = [editGraph(model).addInts([2, 3]), editGraph(model).addInts([2, 3])];
  expect(new Set(names).size).toBe(1);
  const others = [editGraph(model).addInts([2, 4]), editGraph(model).addInts([2, 3], 6)];
  expect(new Set([...names, ...others]).size).toBe(3);
});
