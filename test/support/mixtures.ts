import type { GraphBuilder } from './graph-builder.js';
import { HIDDEN, NEURONS, type Part } from './small-decoder.js';

/** Numbers of experts of each mixture, and of each token. */
export const [EXPERTS, CHOSEN] = [6, 2];

type Attributes = Readonly<Record<string, number | string>>;

/** From the input of the experts to their scores `[T, E]`. */
export type Router = (g: GraphBuilder, x: string) => string;

const logitsOf: Router = (g, x) =>
  g.op('Add', [g.op('MatMul', [x, g.weight([HIDDEN, EXPERTS], 0.8)]), g.weight([EXPERTS], 0.2)]);

export const plainRouter: Router = (g, x) => g.op('Reshape', [logitsOf(g, x), g.ints(-1, EXPERTS)]);

/** Sigmoids, a bias for the choice only, and logarithms of the chosen shares in a tensor of very low scores (LFM2). */
export const sigmoidRouter: Router = (g, x) => {
  const shares = g.op('Sigmoid', [plainRouter(g, x)]);
  const biased = g.op('Add', [shares, g.weight([EXPERTS], 0.3)]);
  const [, chosen] = g.ops('TopK', [biased, g.ints(CHOSEN)], 2, { axis: -1 }) as [string, string];
  const logarithms = g.op('Log', [g.op('GatherElements', [shares, chosen], { axis: 1 })]);
  const low = g.op('Sub', [g.op('Expand', [g.scalar(0), g.op('Shape', [shares])]), g.scalar(1e4)]);
  return g.op('ScatterElements', [low, chosen, logarithms], { axis: 1 });
};

/** @param rowsPerNeuron rows of the first weight for each neuron: 2 with a gate, else 1 */
export const mixture =
  (router: Router, attributes: Attributes = {}, rowsPerNeuron = 2): Part =>
  ({ g }, x) =>
    g.op(
      'MoE',
      [
        ...[x, router(g, x)],
        ...[
          g.weight([EXPERTS, rowsPerNeuron * NEURONS, HIDDEN], 0.3),
          g.weight([EXPERTS, rowsPerNeuron * NEURONS], 0.1),
        ],
        ...[g.weight([EXPERTS, HIDDEN, NEURONS], 0.3), g.weight([EXPERTS, HIDDEN], 0.1)],
      ],
      { k: CHOSEN, normalize_routing_weights: 1, activation_type: 'swiglu', swiglu_fusion: 1, ...attributes },
      'com.microsoft',
    );

/** A mixture in codes of 4 bits, two in a byte, with a scale for each row. */
export const packedMixture: Part = ({ g }, x) =>
  g.op(
    'QMoE',
    [
      ...[x, plainRouter(g, x)],
      ...[g.codes([EXPERTS, 2 * NEURONS, HIDDEN / 2]), g.weight([EXPERTS, 2 * NEURONS], 0.02, 0.08)],
      ...[g.weight([EXPERTS, 2 * NEURONS], 0.1), g.codes([EXPERTS, HIDDEN, NEURONS / 2])],
      ...[g.weight([EXPERTS, HIDDEN], 0.02, 0.08), g.weight([EXPERTS, HIDDEN], 0.1)],
    ],
    {
      k: CHOSEN,
      normalize_routing_weights: 1,
      activation_type: 'swiglu',
      swiglu_fusion: 1,
      expert_weight_bits: 4,
    },
    'com.microsoft',
  );

/** The chosen experts and their shares, `[T, k]` each. */
type Choice = (g: GraphBuilder, x: string) => readonly [chosen: string, shares: string];

/** A softmax of all scores, normalised over the best. */
export const bestOfSoftmax: Choice = (g, x) => {
  const all = g.op('Softmax', [plainRouter(g, x)], { axis: -1 });
  const [best, chosen] = g.ops('TopK', [all, g.ints(CHOSEN)], 2, { axis: -1 }) as [string, string];
  return [chosen, g.op('Div', [best, g.op('ReduceSum', [best, g.ints(-1)], { keepdims: 1 })])];
};

/** A softmax of the best (gpt-oss, Granite). */
export const softmaxOfBest: Choice = (g, x) => {
  const [best, chosen] = g.ops('TopK', [plainRouter(g, x), g.ints(CHOSEN)], 2, { axis: -1 }) as [string, string];
  return [chosen, g.op('Softmax', [best], { axis: -1 })];
};

/**
 * Sigmoids with a bias for the choice only, among the experts of the best group (DeepSeek-V3, GLM-4).
 * @param judged number of experts whose scores rank a group
 */
export const bestGroup =
  (groupCount: number, { judged = 2, count = CHOSEN } = {}): Choice =>
  (g, x) => {
    const shares = g.op('Sigmoid', [plainRouter(g, x)]);
    const biased = g.op('Add', [shares, g.weight([EXPERTS], 0.3)]);
    const apart = g.op('Reshape', [biased, g.ints(-1, groupCount, EXPERTS / groupCount)]);
    const [pairs] = g.ops('TopK', [apart, g.ints(judged)], 2, { axis: -1 }) as [string];
    const groups = g.op('ReduceSum', [pairs, g.ints(-1)], { keepdims: 0 });
    const [, best] = g.ops('TopK', [groups, g.ints(1)], 2, { axis: -1 }) as [string, string];
    const none = g.op('Expand', [g.scalar(0), g.op('Shape', [groups])]);
    const ones = g.op('ConstantOfShape', [g.op('Shape', [best])]);
    const marks = g.op('ScatterElements', [none, best, g.op('Add', [ones, g.scalar(1)])], { axis: 1 });
    const wide = g.op('Expand', [g.op('Unsqueeze', [marks, g.ints(-1)]), g.ints(1, groupCount, EXPERTS / groupCount)]);
    const isIn = g.op('Cast', [g.op('Reshape', [wide, g.ints(-1, EXPERTS)])], { to: 9 });
    const masked = g.op('Where', [isIn, biased, g.scalar(-1e4)]);
    const [, chosen] = g.ops('TopK', [masked, g.ints(count)], 2, { axis: -1 }) as [string, string];
    const picked = g.op('GatherElements', [shares, chosen], { axis: 1 });
    return [chosen, g.op('Div', [picked, g.op('ReduceSum', [picked, g.ints(-1)], { keepdims: 1 })])];
  };

/** Weights of the chosen experts are gathered for each token (transformers' batched_mm, by dynamo). */
export const gathered =
  (choose: Choice, gather: 'Gather' | 'GatherND' = 'GatherND', count = CHOSEN): Part =>
  ({ g }, x) => {
    const tokens = g.op('Reshape', [x, g.ints(-1, HIDDEN)]);
    const [chosen, shares] = choose(g, tokens);
    const each = g.op('Expand', [g.op('Unsqueeze', [tokens, g.ints(1)]), g.ints(1, count, 1)]);
    const rows = g.op('Reshape', [each, g.ints(-1, HIDDEN, 1)]);
    const flat = g.op('Reshape', [chosen, g.ints(-1)]);
    const indices = gather === 'Gather' ? flat : g.op('Unsqueeze', [flat, g.ints(-1)]);
    const pick = (dims: readonly number[]) => g.op(gather, [g.weight(dims, 0.3), indices]);
    const wide = g.op('Squeeze', [g.op('MatMul', [pick([EXPERTS, 2 * NEURONS, HIDDEN]), rows]), g.ints(-1)]);
    const biased = g.op('Add', [wide, pick([EXPERTS, 2 * NEURONS])]);
    const [gate, up] = g.ops('Split', [biased], 2, { axis: 1 }) as [string, string];
    const inner = g.op('Unsqueeze', [g.op('Mul', [g.op('Relu', [gate]), up]), g.ints(-1)]);
    const made = g.op('Squeeze', [g.op('MatMul', [pick([EXPERTS, HIDDEN, NEURONS]), inner]), g.ints(-1)]);
    const weighted = g.op('Mul', [made, g.op('Unsqueeze', [g.op('Reshape', [shares, g.ints(-1)]), g.ints(-1)])]);
    const sum = g.op('ReduceSum', [g.op('Reshape', [weighted, g.ints(-1, count, HIDDEN)]), g.ints(1)], {
      keepdims: 0,
    });
    return g.op('Reshape', [sum, g.op('Shape', [x])]);
  };

/** Every expert for every token, times its share, which is 0 if it is not chosen (Mobius). */
export const branches =
  (numbers = Array.from({ length: EXPERTS }, (_, expert) => expert)): Part =>
  ({ g }, x) => {
    const logits = logitsOf(g, x);
    const [best, chosen] = g.ops('TopK', [logits, g.ints(CHOSEN)], 2, { axis: -1 }) as [string, string];
    const shares = g.op('Softmax', [best], { axis: -1 });
    return numbers
      .map((expert) => {
        const gate = g.op('Relu', [g.op('MatMul', [x, g.weight([HIDDEN, NEURONS], 0.3)])]);
        const up = g.op('MatMul', [x, g.weight([HIDDEN, NEURONS], 0.3)]);
        const made = g.op('MatMul', [g.op('Mul', [gate, up]), g.weight([NEURONS, HIDDEN], 0.3)]);
        const isChosen = g.op('Cast', [g.op('Equal', [chosen, g.intScalar(expert)])], { to: 1 });
        const share = g.op('ReduceSum', [g.op('Mul', [shares, isChosen]), g.ints(-1)], { keepdims: 1 });
        return g.op('Mul', [made, share]);
      })
      .reduce((sum, term) => g.op('Add', [sum, term]));
  };
