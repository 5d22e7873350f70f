import type { GraphBuilder } from './graph-builder.js';
import { HIDDEN, type Part } from './small-decoder.js';

const MICROSOFT = 'com.microsoft';
const [KEY_HEADS, VALUE_HEADS, SIZE, TAPS] = [2, 4, 4, 3];
const [KEYS, VALUES] = [KEY_HEADS * SIZE, VALUE_HEADS * SIZE];
const CHANNELS = 2 * KEYS + VALUES;

/**
 * A gated delta rule with a short convolution before it, as Qwen3.5 has in place of most attentions: with the operators that
 * onnxruntime-genai writes (`fused`), or norms, gates and convolution in primitives, tokens and heads on one axis (`apart`).
 */
export function linearAttention(form: 'fused' | 'apart'): Part {
  return ({ g, block }, x) => {
    const project = (width: number) => g.op('MatMul', [x, g.weight([HIDDEN, width])]);
    const convolved = convolve(g, { form, block, x: g.op('Transpose', [project(CHANNELS)], { perm: [0, 2, 1] }) });
    const tokens = g.op('Transpose', [convolved], { perm: [0, 2, 1] });
    const [query, key, value] = g.ops('Split', [tokens, g.ints(KEYS, KEYS, VALUES)], 3, { axis: -1 }) as [
      string,
      string,
      string,
    ];
    const [decay, rate] = gates(g, form, [project(VALUE_HEADS), project(VALUE_HEADS)]);
    const past = g.input(`past.${block}.recurrent`, 1, ['batch', VALUE_HEADS, SIZE, SIZE]);
    const made = [`attended.${block}`, `present.${block}.recurrent`];
    const inputs = [normalise(g, form, query), normalise(g, form, key), value, past, decay, rate];
    const attributes = { q_num_heads: KEY_HEADS, kv_num_heads: VALUE_HEADS, update_rule: 'gated_delta' };
    g.ops('LinearAttention', inputs, made, attributes, MICROSOFT);
    g.output(made[1]!, 1, ['batch', VALUE_HEADS, SIZE, SIZE]);
    const normed = gatedNorm(g, form, { attended: made[0]!, gate: project(VALUES), hidden: x });
    return g.op('MatMul', [normed, g.weight([VALUES, HIDDEN])]);
  };
}

interface Convolution {
  readonly form: 'fused' | 'apart';
  readonly block: number;
  readonly x: string;
}

function convolve(g: GraphBuilder, { form, block, x }: Convolution): string {
  const dims = ['batch', CHANNELS, TAPS - 1];
  const [past, present] = [g.input(`past.${block}.conv`, 1, dims), `present.${block}.conv`];
  const [weight, bias] = [g.weight([CHANNELS, 1, TAPS], 0.5), g.weight([CHANNELS], 0.1)];
  if (form === 'fused') {
    const made = [`convolved.${block}`, present];
    g.ops('CausalConvWithState', [x, weight, bias, past], made, { activation: 'silu' }, MICROSOFT);
    g.output(present, 1, dims);
    return made[0]!;
  }
  const whole = g.op('Concat', [past, x], { axis: 2 });
  g.named(present, 'Slice', [whole, g.ints(1 - TAPS), g.ints(2 ** 31), g.ints(2)]);
  g.output(present, 1, dims);
  const made = g.op('Conv', [whole, weight, bias], { group: CHANNELS, kernel_shape: [TAPS] });
  return g.op('Mul', [made, g.op('Sigmoid', [made])]);
}

function gates(g: GraphBuilder, form: Convolution['form'], [a, b]: readonly [string, string]): [string, string] {
  const [bias, scale] = [g.weight([VALUE_HEADS], 0.5), g.weight([VALUE_HEADS], 0.2, -0.5)];
  if (form === 'fused') return g.ops('LinearAttentionGate', [a, bias, scale, b], 2, {}, MICROSOFT) as [string, string];
  return [g.op('Mul', [scale, g.op('Softplus', [g.op('Add', [a, bias])])]), g.op('Sigmoid', [b])];
}

function normalise(g: GraphBuilder, form: Convolution['form'], x: string): string {
  const heads = g.op('Reshape', [x, g.ints(0, 0, KEY_HEADS, SIZE)]);
  const normed =
    form === 'fused'
      ? g.op('LpNormalization', [heads], { axis: -1, p: 2 })
      : g.op('Div', [heads, g.op('Sqrt', [g.op('ReduceSum', [g.op('Mul', [heads, heads]), g.ints(-1)])])]);
  return g.op('Reshape', [normed, g.ints(0, 0, KEYS)]);
}

interface GatedNorm {
  readonly attended: string;
  readonly gate: string;
  /** A value with the sizes of batch and window. */
  readonly hidden: string;
}

function gatedNorm(g: GraphBuilder, form: Convolution['form'], { attended: x, gate, hidden }: GatedNorm): string {
  const scale = g.weight([SIZE], 0.2, 1);
  if (form === 'fused') return g.op('GatedRMSNorm', [x, scale, gate], { epsilon: { float: 1e-6 } }, MICROSOFT);
  const [rows, gateRows] = [x, gate].map((value) => g.op('Reshape', [value, g.ints(-1, SIZE)])) as [string, string];
  const square = g.op('ReduceMean', [g.op('Mul', [rows, rows])], { axes: [-1], keepdims: 1 });
  const normed = g.op('Mul', [g.op('Div', [rows, g.op('Sqrt', [g.op('Add', [square, g.scalar(1e-6)])])]), scale]);
  const gated = g.op('Mul', [normed, g.op('Mul', [gateRows, g.op('Sigmoid', [gateRows])])]);
  const shape = g.op('Slice', [g.op('Shape', [hidden]), g.ints(0), g.ints(2)]);
  const sizes = g.op('Concat', [shape, g.ints(VALUES)], { axis: 0 });
  return g.op('Reshape', [gated, sizes]);
}
