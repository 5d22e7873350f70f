import { OPERATORS } from '../../src/operators/table.js';
import { differentiateCase, runGradientCheck } from '../support/gradient-check.js';
import { CASES } from './cases.js';

/** Operators of opset 27, which ONNX Runtime does not run yet, and the contrib operators that they are based on. */
const SAME_AS: Readonly<Record<string, string>> = {
  CausalConvWithState: 'com.microsoft.CausalConvWithState',
  LinearAttention: 'com.microsoft.LinearAttention',
};

it.each(Object.entries(SAME_AS))('%s has the row of %s', (name, other) => {
  expect(OPERATORS[name]).toBe(OPERATORS[other]);
});

const differentiable = Object.entries(OPERATORS)
  .filter(([, { gradient }]) => gradient !== 'zero' && !('missing' in gradient))
  .map(([name]) => name)
  .filter((name) => !(name in SAME_AS));

describe.each(differentiable)('the gradient of %s', (operator) => {
  it('has a case', () => {
    expect(CASES[operator]?.length ?? 0).toBeGreaterThan(0);
  });

  it.each((CASES[operator] ?? []).map((given, at) => [at, given] as const))(
    'agrees with central differences in form %i',
    async (_, given) => {
      const { errors, tolerance } = await runGradientCheck(given);
      for (const [input, error] of Object.entries(errors)) {
        expect({ input, error: error < tolerance ? 'small' : error }).toEqual({ input, error: 'small' });
      }
    },
  );
});

it.each([
  ['LpNormalization', {}],
  ['ReduceL2', { keepdims: 1 }],
  ['Sqrt', {}],
])('the gradient of %s is zero at a zero vector', async (op, attributes) => {
  const x = { dims: [1, 3], from: 0, to: 0 };
  const { gradients } = await differentiateCase({
    nodes: [{ op, inputs: ['x'], outputs: ['y'], attributes }],
    inputs: { x },
  });
  expect(Array.from(gradients.x!, Math.abs)).toEqual([0, 0, 0]);
});

it('every case has a gradient rule', () => {
  expect(Object.keys(CASES).filter((operator) => !differentiable.includes(operator))).toEqual([]);
});
