import type { NodeProto } from 'onnx-buf';
import { makeNode } from '../graph/build.js';
import { transposeMatrix } from '../linalg/matrix-block.js';
import { dataTypeNumber } from '../onnx/data-types.js';
import { setWeight } from '../onnx/edit-weights.js';
import type { OnnxModel, TensorHandle } from '../onnx/onnx-model.js';
import { opsetOf } from '../onnx/opset-of.js';
import { bytesHandle, floatsHandle, integersHandle, workedOutHandle } from '../onnx/tensor-handle.js';
import { replaceNodes } from './replace-nodes.js';
import type { StoredCodes } from './store-codes.js';
import type { QuantisedWeight } from './write-blocks.js';

/** Signed codes have seven bits: sums of eight-bit pairs overflow on processors without VNNI. */
export const DYNAMIC_BITS = { int8: 7, uint8: 8 } as const;

export type DynamicType = keyof typeof DYNAMIC_BITS;

/**
 * Has products round their activations to eight bits when they run, in place: `QuantizeLinear` with a step for every token,
 * `MatMulInteger`, and one scale for every output. One step for all tokens (`DynamicQuantizeLinear`) would leave most of them
 * next to nothing where a few have massive activations. Embeddings are looked up in the same codes. Nobody reads the float
 * weights afterwards.
 * @param weights With one block a row.
 */
export function writeDynamic(model: OnnxModel, weights: readonly QuantisedWeight[], type: DynamicType): void {
  const graph = model.proto.graph!;
  const makers = new Map(graph.node.flatMap((node) => node.output.map((value) => [value, node] as const)));
  const replaced = new Map<NodeProto, NodeProto[]>();
  const rounded = new Set<string>();
  const add = (name: string, handle: TensorHandle): string => {
    setWeight(model, name, handle);
    return name;
  };
  const zero = add(
    `${type}_zero_point`,
    bytesHandle({ dataType: dataTypeNumber(type), dims: [] }, Uint8Array.of(type === 'int8' ? 0 : 128)),
  );
  const roundNodes = tokenRounding(model, add);
  for (const { name, stored, products, lookups } of weights) {
    const isTable = lookups.length > 0;
    const codes = add(`${name}_quantized`, isTable ? rowsHandle(stored, type) : columnsHandle(stored, type));
    const { outCount } = stored;
    const scales = add(`${name}_scale`, { ...stored.scales, dims: isTable ? [outCount, 1] : [outCount] });
    for (const { result } of products) {
      const node = makers.get(result)!;
      const [input = ''] = node.input;
      const round = rounded.has(input) ? [] : roundNodes(input);
      rounded.add(input);
      const turned = isTable ? turnNodes(codes, scales, outCount, model) : { codes, scales, nodes: [] };
      replaced.set(node, [...round, ...turned.nodes, ...productNodes(node, { ...turned, zero })]);
    }
    for (const result of lookups)
      replaced.set(makers.get(result)!, lookupNodes(makers.get(result)!, { codes, scales, zero }));
  }
  replaceNodes(graph, replaced);
}

/** Values that come of rounding an activation. */
const roundedNames = (input: string) => ({ codes: `${input}/quantized`, step: `${input}/step` });

/** A token's codes: their zero point, and a scale of one, since the token's own step scales them. */
const TOKEN_ZERO = 'token_zero_point';
export const TOKEN_SCALE = 'token_scale';

/** @returns what makes the nodes that round an activation: a token's largest value is 127 steps. */
function tokenRounding(model: OnnxModel, add: (name: string, handle: TensorHandle) => string) {
  const float = (name: string, value: number) =>
    add(name, floatsHandle({ dataType: 1, dims: [] }, Float32Array.of(value)));
  const one = float(TOKEN_SCALE, 1);
  const part = float('token_part', 1 / 127);
  // Tokens of zeros only have a step too.
  const least = float('token_least_step', 1e-30);
  const zero = add(TOKEN_ZERO, bytesHandle({ dataType: dataTypeNumber('uint8'), dims: [] }, Uint8Array.of(128)));
  const isAttribute = opsetOf(model.proto) < 18;
  const axes = isAttribute
    ? { inputs: [], spec: { attributes: { axes: [-1] } } }
    : { inputs: [add('token_axis', integersHandle([-1]))], spec: {} };
  return (input: string): NodeProto[] => {
    const { codes, step } = roundedNames(input);
    const named = (what: string) => `${input}/${what}`;
    return [
      makeNode({ op: 'Abs', inputs: [input], outputs: [named('sizes')] }),
      makeNode({
        op: 'ReduceMax',
        inputs: [named('sizes'), ...axes.inputs],
        outputs: [named('largest')],
        ...axes.spec,
      }),
      makeNode({ op: 'Mul', inputs: [named('largest'), part], outputs: [named('part')] }),
      makeNode({ op: 'Max', inputs: [named('part'), least], outputs: [step] }),
      makeNode({ op: 'Div', inputs: [input, step], outputs: [named('steps')] }),
      makeNode({ op: 'QuantizeLinear', name: codes, inputs: [named('steps'), one, zero], outputs: [codes] }),
    ];
  };
}

/** Names of a weight's codes, scales and zero point. */
interface CodeNames {
  readonly codes: string;
  readonly scales: string;
  readonly zero: string;
}

function productNodes(node: NodeProto, { codes, scales, zero }: CodeNames): NodeProto[] {
  const [input = '', , bias = ''] = node.input;
  const [result = ''] = node.output;
  const rounded = roundedNames(input);
  const named = (what: string) => `${result}/${what}`;
  const scaled = bias === '' ? result : named('unbiased');
  return [
    makeNode({
      op: 'MatMulInteger',
      name: node.name && `${node.name}_quant`,
      inputs: [rounded.codes, codes, TOKEN_ZERO, zero],
      outputs: [named('sums')],
    }),
    makeNode({ op: 'Cast', inputs: [named('sums')], outputs: [named('floats')], attributes: { to: 1 } }),
    makeNode({ op: 'Mul', inputs: [named('floats'), scales], outputs: [named('scaled')] }),
    makeNode({ op: 'Mul', inputs: [named('scaled'), rounded.step], outputs: [scaled] }),
    ...(bias === '' ? [] : [makeNode({ op: 'Add', inputs: [scaled, bias], outputs: [result] })]),
  ];
}

/** A table's codes as a product reads them: `[C, V]`, with one scale a column. */
function turnNodes(codes: string, scales: string, outCount: number, model: OnnxModel) {
  const names = { codes: `${codes}/turned`, scales: `${scales}/row` };
  const shape = `${scales}/shape`;
  setWeight(model, shape, integersHandle([outCount]));
  return {
    ...names,
    nodes: [
      makeNode({ op: 'Transpose', inputs: [codes], outputs: [names.codes], attributes: { perm: [1, 0] } }),
      makeNode({ op: 'Reshape', inputs: [scales, shape], outputs: [names.scales] }),
    ],
  };
}

function lookupNodes(node: NodeProto, { codes, scales, zero }: CodeNames): NodeProto[] {
  const ids = node.input[1]!;
  const [result = ''] = node.output;
  const named = (what: string) => `${result}/${what}`;
  const cast = (from: string, to: string) =>
    makeNode({ op: 'Cast', inputs: [from], outputs: [to], attributes: { to: 1 } });
  return [
    makeNode({
      op: 'Gather',
      name: node.name && `${node.name}_quant`,
      inputs: [codes, ids],
      outputs: [named('codes')],
    }),
    makeNode({ op: 'Gather', inputs: [scales, ids], outputs: [named('scales')] }),
    cast(named('codes'), named('floats')),
    cast(zero, named('zero_point')),
    makeNode({ op: 'Sub', inputs: [named('floats'), named('zero_point')], outputs: [named('levels')] }),
    makeNode({ op: 'Mul', inputs: [named('levels'), named('scales')], outputs: [result] }),
  ];
}

/** Codes as rows of a table, `[N, K]`. */
function rowsHandle({ codes, outCount, inCount }: StoredCodes, type: DynamicType): TensorHandle {
  const shape = { dataType: dataTypeNumber(type), dims: [outCount, inCount] };
  return workedOutHandle(shape, async () => signed(await codes.read(), type));
}

/** Codes as the right side of a product, `[K, N]`. */
function columnsHandle({ codes, outCount, inCount }: StoredCodes, type: DynamicType): TensorHandle {
  const shape = { dataType: dataTypeNumber(type), dims: [inCount, outCount] };
  return workedOutHandle(shape, async () => signed(transposeMatrix(await codes.read(), outCount, inCount), type));
}

/** Codes around the middle of their range as they are, or around zero. */
function signed(codes: Uint8Array<ArrayBuffer>, type: DynamicType): Uint8Array<ArrayBuffer> {
  if (type === 'uint8') return codes;
  const middle = 2 ** (DYNAMIC_BITS.int8 - 1);
  return codes.map((code) => code - middle);
}
