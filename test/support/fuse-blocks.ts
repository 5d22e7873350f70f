import type { NodeProto, TensorProto } from 'onnx-buf';
import { makeFloatInitializer, makeInt64Initializer, makeNode } from '../../src/onnx/build.js';

/** As the bundled model's `config.json` says. */
const [HEADS, KV_HEADS, HEAD_SIZE, EPSILON, THETA, POSITIONS] = [8, 4, 24, 1e-5, 10_000, 512] as const;

const MICROSOFT = 'com.microsoft';
const [COSINES, SINES, LAST, TOTAL, ONE] = ['cos_cache', 'sin_cache', 'last_position', 'total_length', 'one'] as const;

/** The sum of a block of the bundled model: what the next one reads. */
export const sumOf = (block: number): string => `/model/layers.${block}/Add_1_output_0`;

/** ONNX Runtime's operators for the norms and the attention of the bundled model, which make the values that its own nodes make. */
export function fuseBlocks(count: number): { readonly nodes: NodeProto[]; readonly initializers: TensorProto[] } {
  const blocks = Array.from({ length: count }, (_, block) => fuseBlock(block));
  return { nodes: [...countTokens(), ...blocks.flat(), norm('norm', sumOf(count - 1))], initializers: constants() };
}

function fuseBlock(block: number): NodeProto[] {
  const name = `layers.${block}`;
  const before = block === 0 ? '/model/embed_tokens/Gather_output_0' : sumOf(block - 1);
  return [
    norm(`${name}/input_layernorm`, before),
    ...attention(block),
    norm(`${name}/post_attention_layernorm`, `/model/${name}/Add_output_0`),
  ];
}

function norm(name: string, x: string): NodeProto {
  return makeNode({
    op: 'SimplifiedLayerNormalization',
    name: `/model/${name}/Norm`,
    inputs: [x, `model.${name.replace('/', '.')}.weight`],
    outputs: [`/model/${name}/Mul_1_output_0`],
    attributes: { axis: -1, epsilon: { float: EPSILON }, stash_type: 1 },
  });
}

function attention(block: number): NodeProto[] {
  const at = `/model/layers.${block}/self_attn`;
  const rotate = (letter: string, heads: number) =>
    makeNode({
      op: 'RotaryEmbedding',
      domain: MICROSOFT,
      name: `${at}/${letter}_rotary`,
      inputs: [`${at}/${letter}_proj/MatMul_output_0`, 'position_ids', COSINES, SINES],
      outputs: [`${at}/${letter}_rotary/output_0`],
      attributes: { num_heads: heads },
    });
  const [keys, values] = ['key', 'value'] as const;
  return [
    rotate('q', HEADS),
    rotate('k', KV_HEADS),
    makeNode({
      op: 'GroupQueryAttention',
      domain: MICROSOFT,
      name: `${at}/GroupQueryAttention`,
      inputs: [
        ...[`${at}/q_rotary/output_0`, `${at}/k_rotary/output_0`, `${at}/v_proj/MatMul_output_0`],
        ...[keys, values].map((kind) => `past_key_values.${block}.${kind}`),
        ...[LAST, TOTAL],
      ],
      outputs: [`${at}/Reshape_7_output_0`, ...[keys, values].map((kind) => `present.${block}.${kind}`)],
      attributes: { num_heads: HEADS, kv_num_heads: KV_HEADS },
    }),
  ];
}

/** The last position that a sequence may look at, and how many there are. */
function countTokens(): NodeProto[] {
  const node = (op: string, inputs: string[], output: string, attributes = {}) =>
    makeNode({ op, name: `/model/lengths/${op}/${output}`, inputs, outputs: [output], attributes });
  return [
    node('ReduceSum', ['attention_mask', ONE], 'attended', { keepdims: 0 }),
    node('Sub', ['attended', ONE], 'last_attended'),
    node('Cast', ['last_attended'], LAST, { to: 6 }),
    node('Shape', ['attention_mask'], 'mask_shape', { start: 1 }),
    node('Squeeze', ['mask_shape'], 'mask_length'),
    node('Cast', ['mask_length'], TOTAL, { to: 6 }),
  ];
}

function constants(): TensorProto[] {
  const half = HEAD_SIZE / 2;
  const table = (name: string, turn: (angle: number) => number) =>
    makeFloatInitializer(
      name,
      [POSITIONS, half],
      Array.from({ length: POSITIONS * half }, (_, at) => turn(Math.floor(at / half) / THETA ** ((at % half) / half))),
    );
  return [table(COSINES, Math.cos), table(SINES, Math.sin), makeInt64Initializer(ONE, [1])];
}
