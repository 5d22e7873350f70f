import type { NodeProto, ValueInfoProto } from 'onnx-buf';
import { makeNode, makeValueInfo } from '../onnx/build.js';
import { FLOAT32, INT32, UINT8 } from '../onnx/data-types.js';
import { setWeight } from '../onnx/edit-weights.js';
import type { OnnxModel, TensorHandle } from '../onnx/onnx-model.js';
import { opsetOf } from '../onnx/opset-of.js';
import { bytesHandle, floatsHandle, integersHandle } from '../onnx/tensor-handle.js';
import type { ValueFacts } from '../onnx/value-facts.js';
import { linearOf } from './linear-of-blocks.js';
import { replaceNodes } from './replace-nodes.js';
import type { QuantisedWeight } from './write-blocks.js';
import { addLinear, type LinearCodedWeight, type LinearNames, lookupOf } from './write-linear.js';

/** Bits of codes. Signed ones have seven: sums of eight-bit pairs overflow on processors without VNNI. */
export const DYNAMIC_BITS = { int8: 7, uint8: 8 } as const;

export type DynamicType = keyof typeof DYNAMIC_BITS;

/** Converts rounded weights, with one block per row, for `writeDynamic`. A table for lookups has its tokens as rows. */
export const dynamicWeights = (weights: readonly QuantisedWeight[], type: DynamicType): LinearCodedWeight[] =>
  weights.map(({ stored, ...weight }) => {
    const inputAxis = weight.lookups.length > 0 ? 1 : 0;
    const named = (suffix: string) => `${weight.name}_${suffix}`;
    const names = { codes: named('quantized'), scales: named('scale'), zeroPoints: named('zero_point') };
    return { ...weight, inputAxis, linear: linearOf(stored, { type, inputAxis, names }) };
  });

/**
 * Quantises the activations of products to eight bits at run time, in place: `QuantizeLinear` with a scale per token,
 * `MatMulInteger`, and one scale per output. With one scale for all tokens (`DynamicQuantizeLinear`), a few massive
 * activations would leave hardly any levels for the others. Embeddings are looked up in the same codes. The float weights
 * are not read afterwards.
 * @param weights With codes of eight bits, and one scale per row.
 * @param facts Of the float model, for the rank of activations.
 */
export function writeDynamic(model: OnnxModel, weights: readonly LinearCodedWeight[], facts: ValueFacts): void {
  const graph = model.proto.graph!;
  const producers = new Map(graph.node.flatMap((node) => node.output.map((value) => [value, node] as const)));
  const replaced = new Map<NodeProto, readonly NodeProto[]>();
  const rounded = new Set<string>();
  const roundNodes = tokenRounding(model);
  for (const { inputAxis, inCount, outCount, linear, products, lookups } of weights) {
    const names = addLinear(model, linear);
    const transposed = `${names.codes}/transposed`;
    const isTransposed = inputAxis === 1;
    for (const [at, { result }] of products.entries()) {
      const node = producers.get(result)!;
      const [input = ''] = node.input;
      const round = rounded.has(input) ? [] : roundNodes(input);
      const axes = facts
        .get(input)
        ?.dims.slice(1)
        .map((_, axis) => `${input}/axis_${axis}`);
      if (axes !== undefined && round.length > 0) graph.valueInfo.push(...roundingInfo(input, axes, inCount));
      if (axes !== undefined) graph.valueInfo.push(...productInfo(result, axes, outCount));
      rounded.add(input);
      const transpose = makeNode({
        op: 'Transpose',
        inputs: [names.codes],
        outputs: [transposed],
        attributes: { perm: [1, 0] },
      });
      replaced.set(node, [
        ...round,
        ...(isTransposed && at === 0 ? [transpose] : []),
        ...productNodes(node, isTransposed ? { ...names, codes: transposed } : names),
      ]);
    }
    const lookup = lookupOf(linear);
    for (const result of lookups) {
      const node = producers.get(result)!;
      if (lookup !== undefined) replaced.set(node, lookup(node, { model, linear, names }));
    }
  }
  replaceNodes(graph, replaced);
}

/** Names of a rounded activation's codes and scales. */
const roundedNames = (input: string) => ({ codes: `${input}/quantized`, step: `${input}/step` });

/**
 * Declares values with symbolic shapes, which shows ONNX Runtime's memory planner that shapes are equal. Without that it
 * compares each value with all freed ones: opening SmolLM2 takes 0.9 s longer.
 * @param axes Symbolic names of all axes but the last.
 */
function roundingInfo(input: string, axes: readonly string[], width: number): ValueInfoProto[] {
  const info = (suffix: string, last: number, dataType = FLOAT32) =>
    makeValueInfo(`${input}/${suffix}`, dataType, [...axes, last]);
  const ones = ['largest', 'part', 'step'].map((suffix) => info(suffix, 1));
  return [info('sizes', width), info('steps', width), info('quantized', width, UINT8), ...ones];
}

function productInfo(result: string, axes: readonly string[], width: number): ValueInfoProto[] {
  const info = (suffix: string, dataType: number) => makeValueInfo(`${result}/${suffix}`, dataType, [...axes, width]);
  return [info('sums', INT32), info('floats', FLOAT32), info('scaled', FLOAT32)];
}

/** Zero point and scale of rounded activations. The scale is 1, since they are divided by their token's scale before. */
const TOKEN_ZERO = 'token_zero_point';
export const TOKEN_SCALE = 'token_scale';

/** @returns A function that creates the nodes that round an activation: a token's largest magnitude becomes 127. */
function tokenRounding(model: OnnxModel) {
  const add = (name: string, handle: TensorHandle): string => {
    setWeight(model, name, handle);
    return name;
  };
  const float = (name: string, value: number) =>
    add(name, floatsHandle({ dataType: FLOAT32, dims: [] }, Float32Array.of(value)));
  const one = float(TOKEN_SCALE, 1);
  const part = float('token_part', 1 / 127);
  // For tokens of zeros.
  const least = float('token_least_step', 1e-30);
  const zero = add(TOKEN_ZERO, bytesHandle({ dataType: UINT8, dims: [] }, Uint8Array.of(128)));
  const isAttribute = opsetOf(model.proto) < 18;
  const axes = isAttribute
    ? { inputs: [], spec: { attributes: { axes: [-1] } } }
    : { inputs: [add('token_axis', integersHandle([-1]))], spec: {} };
  return (input: string): NodeProto[] => {
    const { codes, step } = roundedNames(input);
    const named = (suffix: string) => `${input}/${suffix}`;
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

function productNodes(node: NodeProto, { codes, scales, zeroPoints }: LinearNames): NodeProto[] {
  const [input = '', , bias = ''] = node.input;
  const [result = ''] = node.output;
  const rounded = roundedNames(input);
  const named = (suffix: string) => `${result}/${suffix}`;
  const scaled = bias === '' ? result : named('unbiased');
  return [
    makeNode({
      op: 'MatMulInteger',
      name: node.name && `${node.name}_quant`,
      inputs: [rounded.codes, codes, TOKEN_ZERO, ...(zeroPoints === '' ? [] : [zeroPoints])],
      outputs: [named('sums')],
    }),
    makeNode({ op: 'Cast', inputs: [named('sums')], outputs: [named('floats')], attributes: { to: FLOAT32 } }),
    makeNode({ op: 'Mul', inputs: [named('floats'), scales], outputs: [named('scaled')] }),
    makeNode({ op: 'Mul', inputs: [named('scaled'), rounded.step], outputs: [scaled] }),
    ...(bias === '' ? [] : [makeNode({ op: 'Add', inputs: [scaled, bias], outputs: [result] })]),
  ];
}
