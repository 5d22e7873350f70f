import { OptionError, UnsupportedModelError } from '../../src/errors.js';
import { makeNode, type NodeSpec } from '../../src/onnx/build.js';
import type { ValueFact } from '../../src/onnx/value-facts.js';
import { buildGradientGraph, type GradientProblem } from '../../src/operators/gradient-graph.js';
import { differentiateCase, type GradientCase } from '../support/gradient-check.js';
import { runGraph } from '../support/load-graph.js';

const floats = (...dims: number[]): ValueFact => ({ dims, dataType: 1 });

function problem(
  nodes: readonly NodeSpec[],
  shapes: Readonly<Record<string, ValueFact>>,
  rest: Partial<GradientProblem>,
): GradientProblem {
  return {
    graph: { nodes: nodes.map(makeNode), initializers: new Map(), opset: 17 },
    shapes: new Map(Object.entries(shapes)),
    outputs: [{ value: 'y' }],
    wanted: ['x'],
    ...rest,
  };
}

const CHAIN: readonly NodeSpec[] = [
  { op: 'Neg', inputs: ['x'], outputs: ['a'] },
  { op: 'Exp', inputs: ['a'], outputs: ['b'] },
  { op: 'Tanh', inputs: ['b'], outputs: ['c'] },
  { op: 'Sigmoid', inputs: ['c'], outputs: ['y'] },
];
const CHAIN_SHAPES = Object.fromEntries(['x', 'a', 'b', 'c', 'y'].map((name) => [name, floats(2)]));

describe('buildGradientGraph', () => {
  it('differentiates only nodes between the wanted value and the output', () => {
    const { nodes } = buildGradientGraph(problem(CHAIN, CHAIN_SHAPES, { outputs: [{ value: 'c' }], wanted: ['b'] }));
    expect(nodes.map(({ opType }) => opType)).toEqual(['Mul', 'Sub', 'Mul']);
  });

  it('omits gradients of weights that are not wanted', async () => {
    const { backwardOps } = await differentiateCase({
      nodes: [
        { op: 'MatMul', inputs: ['x', 'w'], outputs: ['h'] },
        { op: 'Add', inputs: ['h', 'b'], outputs: ['y'] },
      ],
      inputs: { x: { dims: [2, 3] }, w: { dims: [3, 4] }, b: { dims: [4] } },
      wanted: ['x'],
      precision: 'float32',
    });
    expect(backwardOps).toEqual(['FusedMatMul']);
  });

  it('accepts a cotangent of any name, and prefixes all new names', () => {
    const { nodes, gradients } = buildGradientGraph(
      problem(CHAIN, CHAIN_SHAPES, { outputs: [{ value: 'a', cotangent: 'incoming' }], prefix: 'back/' }),
    );
    expect(nodes.map(({ opType, input }) => [opType, ...input])).toEqual([['Neg', 'incoming']]);
    expect([...gradients]).toEqual([['x', 'back/0/Neg']]);
  });

  it('gives every gradient a different name', () => {
    const add = [{ op: 'Add', inputs: ['x', 'z'], outputs: ['y'] }];
    const shapes = { x: floats(2), z: floats(2), y: floats(2) };
    const { gradients, nodes } = buildGradientGraph(problem(add, shapes, { wanted: ['x', 'z', 'y'] }));
    expect(new Set(gradients.values()).size).toBe(3);
    expect(gradients.get('y')).not.toBe('grad:y');
    expect(nodes.map(({ opType }) => opType)).toEqual(['Identity', 'Identity', 'Identity']);
  });

  it('names the domains that the model must import', () => {
    const product = [{ op: 'MatMul', inputs: ['x', 'w'], outputs: ['y'] }];
    const shapes = { x: floats(2, 3), w: floats(3, 4), y: floats(2, 4) };
    expect(buildGradientGraph(problem(product, shapes, {})).domains).toEqual(['com.microsoft']);
    expect(buildGradientGraph(problem(CHAIN, CHAIN_SHAPES, {})).domains).toEqual([]);
  });

  it('sums the gradients of a value that is read twice, and of several outputs', async () => {
    const { gradients, cotangents, feeds } = await differentiateCase({
      nodes: [
        { op: 'Mul', inputs: ['x', 'x'], outputs: ['y'] },
        { op: 'Neg', inputs: ['x'], outputs: ['z'] },
      ],
      inputs: { x: { dims: [3] } },
      outputs: ['y', 'z'],
    });
    const x = Array.from(feeds.x?.data as Float64Array);
    const [gy, gz] = [Array.from(cotangents['grad:y'] ?? []), Array.from(cotangents['grad:z'] ?? [])];
    const want = x.map((value, at) => 2 * value * (gy[at] ?? 0) - (gz[at] ?? 0));
    Array.from(gradients.x ?? []).forEach((value, at) => {
      expect(value).toBeCloseTo(want[at] ?? Number.NaN, 12);
    });
  });

  it('joins the windows of sliced values instead of padding them', async () => {
    const { backwardOps } = await differentiateCase({
      nodes: [{ op: 'Split', inputs: ['x'], outputs: ['a', 'b'], attributes: { axis: 1, num_outputs: 2 } }],
      inputs: { x: { dims: [2, 4] } },
      outputs: ['a', 'b'],
    });
    expect(backwardOps).toEqual(['Concat']);
  });

  it('refuses an operator without a rule, naming it and its node', () => {
    const nodes = [{ op: 'Hardmax', name: 'odd', inputs: ['x'], outputs: ['y'] }];
    const build = () => buildGradientGraph(problem(nodes, { x: floats(2), y: floats(2) }, {}));
    expect(build).toThrow(UnsupportedModelError);
    expect(build).toThrow(/No gradient rule for operator Hardmax "odd" \(the operator is not supported\)/);
  });

  it('accepts an operator without a rule that is not on the path', () => {
    const nodes = [...CHAIN, { op: 'Hardmax', inputs: ['x'], outputs: ['other'] }];
    expect(buildGradientGraph(problem(nodes, { ...CHAIN_SHAPES, other: floats(2) }, {})).gradients.has('x')).toBe(true);
  });

  it('refuses an output of a fused operator that its rule does not cover', () => {
    const nodes = [{ op: 'LayerNormalization', inputs: ['x', 'w'], outputs: ['n', 'mean'] }];
    const shapes = { x: floats(2, 3), w: floats(3), n: floats(2, 3), mean: floats(2, 1) };
    const outputs = [{ value: 'n' }, { value: 'mean' }];
    expect(() => buildGradientGraph(problem(nodes, shapes, { outputs }))).toThrow(/output 1 \("mean"\) is used/);
  });

  it('refuses a wanted value that the outputs do not depend on', () => {
    const nodes = [
      { op: 'Cast', inputs: ['x'], outputs: ['whole'], attributes: { to: 7 } },
      { op: 'Cast', inputs: ['whole'], outputs: ['y'], attributes: { to: 1 } },
    ];
    const shapes = { x: floats(2), whole: { dims: [2], dataType: 7 }, y: floats(2) };
    expect(() => buildGradientGraph(problem(nodes, shapes, {}))).toThrow(OptionError);
  });

  it('refuses values of unknown shape and opsets that the emitted nodes do not exist in', () => {
    expect(() => buildGradientGraph(problem(CHAIN, { ...CHAIN_SHAPES, c: undefined as never }, {}))).toThrow(
      OptionError,
    );
    const old = problem(CHAIN, CHAIN_SHAPES, {});
    expect(() => buildGradientGraph({ ...old, graph: { ...old.graph, opset: 9 } })).toThrow(/opset 11 or later/);
  });

  it('refuses attention with past keys and values', () => {
    const heads = { num_heads: 2, kv_num_heads: 1 };
    const names = ['x', 'k', 'v', 'pk', 'pv', 'n', 't'];
    const nodes = [
      { op: 'GroupQueryAttention', domain: 'com.microsoft', inputs: names, outputs: ['y'], attributes: heads },
    ];
    const shapes = {
      x: floats(1, 2, 16),
      k: floats(1, 2, 8),
      v: floats(1, 2, 8),
      pk: floats(1, 1, 3, 8),
      y: floats(1, 2, 16),
    };
    expect(() => buildGradientGraph(problem(nodes, shapes, {}))).toThrow(/past/);
  });
});

describe('half precision', () => {
  /** A gated FFN after a norm, all in the given type. */
  const ffn = (to: number): GradientCase => ({
    nodes: [
      ...['x', 'scale', 'gate', 'up', 'down'].map((name) => ({
        op: 'Cast',
        inputs: [name],
        outputs: [`${name}/cast`],
        attributes: { to },
      })),
      { op: 'SimplifiedLayerNormalization', inputs: ['x/cast', 'scale/cast'], outputs: ['n'] },
      { op: 'MatMul', inputs: ['n', 'gate/cast'], outputs: ['g'] },
      { op: 'MatMul', inputs: ['n', 'up/cast'], outputs: ['u'] },
      { op: 'Sigmoid', inputs: ['g'], outputs: ['s'] },
      { op: 'Mul', inputs: ['g', 's'], outputs: ['silu'] },
      { op: 'Mul', inputs: ['silu', 'u'], outputs: ['h'] },
      { op: 'MatMul', inputs: ['h', 'down/cast'], outputs: ['d'] },
      { op: 'Add', inputs: ['d', 'x/cast'], outputs: ['r'] },
      { op: 'Cast', inputs: ['r'], outputs: ['y'], attributes: { to: 1 } },
    ],
    inputs: {
      x: { dims: [2, 8] },
      scale: { dims: [8], from: 0.5 },
      gate: { dims: [8, 12] },
      up: { dims: [8, 12] },
      down: { dims: [12, 8] },
    },
    wanted: ['x', 'h'],
    precision: 'float32',
  });

  it('is differentiated in float32 and agrees with the float32 graph to its own precision', async () => {
    const [half, single] = [await differentiateCase(ffn(10)), await differentiateCase(ffn(1))];
    for (const name of ['x', 'h']) {
      const want = Array.from(single.gradients[name] ?? []);
      const got = Array.from(half.gradients[name] ?? []);
      const scale = Math.max(...want.map(Math.abs));
      expect(got.length).toBe(want.length);
      expect(got.some((value, at) => value !== want[at])).toBe(true);
      got.forEach((value, at) => {
        expect(Math.abs(value - (want[at] ?? Number.NaN)) / scale).toBeLessThan(5e-3);
      });
    }
  });
});

describe('GroupQueryAttention with query and key norms, which ONNX Runtime has no CPU kernel for', () => {
  const [rows, size] = [3, 8];
  const norm = (name: string, heads: number): NodeSpec[] => [
    { op: 'Reshape', inputs: [name, `${name}/split`], outputs: [`${name}/heads`] },
    {
      op: 'SimplifiedLayerNormalization',
      inputs: [`${name}/heads`, `${name}/weight`],
      outputs: [`${name}/normed`],
      attributes: { epsilon: { float: 1e-6 }, axis: -1 },
    },
    { op: 'Reshape', inputs: [`${name}/normed`, `${name}/merged${heads}`], outputs: [`${name}/out`] },
  ];
  const attributes = { num_heads: 2, kv_num_heads: 1 };
  const composed: GradientCase = {
    nodes: [
      ...norm('q', 2),
      ...norm('k', 1),
      {
        op: 'GroupQueryAttention',
        domain: 'com.microsoft',
        inputs: ['q/out', 'k/out', 'v', '', '', 'n', 't'],
        outputs: ['y'],
        attributes,
      },
    ],
    inputs: {
      q: { dims: [1, rows, 2 * size] },
      k: { dims: [1, rows, size] },
      v: { dims: [1, rows, size] },
      'q/weight': { dims: [size] },
      'k/weight': { dims: [size] },
    },
    constants: {
      'q/split': { type: 'int64', dims: [4], values: [1, rows, 2, size] },
      'k/split': { type: 'int64', dims: [4], values: [1, rows, 1, size] },
      'q/merged2': { type: 'int64', dims: [3], values: [1, rows, 2 * size] },
      'k/merged1': { type: 'int64', dims: [3], values: [1, rows, size] },
      n: { type: 'int32', dims: [1], values: [rows - 1] },
      t: { type: 'int32', dims: [], values: [rows] },
    },
    precision: 'float32',
  };

  it('has the gradient of norms before plain attention', async () => {
    const want = await differentiateCase(composed);
    const wanted = Object.keys(composed.inputs);
    const inputs = ['q', 'k', 'v', '', '', 'n', 't', ...new Array<string>(7).fill(''), 'q/weight', 'k/weight'];
    const fused = { op: 'GroupQueryAttention', domain: 'com.microsoft', inputs, outputs: ['y'], attributes };
    const shapes = Object.fromEntries(wanted.map((name) => [name, floats(...(composed.inputs[name]?.dims ?? []))]));
    const { nodes, initializers, gradients } = buildGradientGraph(
      problem([fused], { ...shapes, y: floats(1, rows, 2 * size) }, { wanted }),
    );
    const cotangent = Float32Array.from(want.cotangents['grad:y'] ?? []);
    const results = await runGraph({
      nodes,
      initializers,
      inputs: { ...want.feeds, 'grad:y': { type: 'float32', dims: [1, rows, 2 * size], data: cotangent } },
      outputs: [...gradients.values()],
      opset: 17,
    });
    for (const name of wanted) {
      const got = Array.from(results[gradients.get(name) ?? '']?.data as Float32Array);
      got.forEach((value, at) => {
        expect(value).toBeCloseTo(want.gradients[name]?.[at] ?? Number.NaN, 5);
      });
    }
  });
});
