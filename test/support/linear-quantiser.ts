import type { GraphProto, ModelProto, NodeProto, TensorProto } from 'onnx-buf';
import { makeInitializer, makeNode } from '../../src/onnx/build.js';

/** How a test's weights are quantised for `DequantizeLinear`. */
export interface LinearForm {
  readonly type: 'int8' | 'uint8' | 'int4' | 'uint4';
  /** Weights that share a scale: those of an output, of a matrix, or of so many inputs of an output. */
  readonly shared: 'output' | 'matrix' | number;
}

const TYPES = { uint8: 2, int8: 3, uint4: 21, int4: 22 } as const;

/**
 * Makes every `MatMul` round its activations too, with one step for all of them, as ONNX Runtime's `quantize_dynamic` does, after
 * `quantiseLinears` with a scale a matrix or an output.
 */
export function roundActivations({ graph }: ModelProto): void {
  const constants = new Map(
    graph!.node.filter(({ opType }) => opType === 'DequantizeLinear').map((node) => [node.output[0]!, node]),
  );
  const nodes = graph!.node.flatMap((node) => {
    const constant = node.opType === 'MatMul' ? constants.get(node.input[1]!) : undefined;
    if (constant === undefined) return constants.has(node.output[0] ?? '') ? [] : [node];
    const [result = ''] = node.output;
    const [codes = '', scale = '', zero = ''] = constant.input;
    const named = (what: string) => `${result}_${what}`;
    return [
      makeNode({
        op: 'DynamicQuantizeLinear',
        inputs: [node.input[0]!],
        outputs: [named('quantized'), named('step'), named('zero')],
      }),
      makeNode({
        op: 'MatMulInteger',
        inputs: [named('quantized'), codes, named('zero'), zero],
        outputs: [named('sums')],
      }),
      makeNode({ op: 'Cast', inputs: [named('sums')], outputs: [named('floats')], attributes: { to: 1 } }),
      makeNode({ op: 'Mul', inputs: [named('step'), scale], outputs: [named('scales')] }),
      makeNode({ op: 'Mul', inputs: [named('floats'), named('scales')], outputs: [result] }),
    ];
  });
  graph!.node.splice(0, graph!.node.length, ...nodes);
}

/** Rounds the right side of every `MatMul`, in place, written down independently of the library's own quantiser. */
export const quantiseLinears = ({ graph }: ModelProto, form: LinearForm): void => quantiseRead(graph!, 'MatMul', form);

/** Rounds the table whose rows are gathered, in place. */
export const quantiseTable = ({ graph }: ModelProto, form: LinearForm): void => quantiseRead(graph!, 'Gather', form);

function quantiseRead(graph: GraphProto, reader: 'MatMul' | 'Gather', form: LinearForm): void {
  const { node, initializer } = graph;
  const matrices = new Map(initializer.filter(({ dims }) => dims.length === 2).map((tensor) => [tensor.name, tensor]));
  const place = reader === 'MatMul' ? 1 : 0;
  const read = new Set(node.filter(({ opType }) => opType === reader).map(({ input }) => input[place]!));
  const made = [...matrices].flatMap(([name, tensor]) => (read.has(name) ? [quantise(graph, tensor, form)] : []));
  node.unshift(...made);
}

function quantise(graph: GraphProto, { name, dims, rawData }: TensorProto, { type, shared }: LinearForm): NodeProto {
  const [inputs, outputs] = dims.map(Number) as [number, number];
  const values = new Float32Array(Uint8Array.from(rawData).buffer);
  const [bits, isSigned] = [type.endsWith('4') ? 4 : 8, type.startsWith('int')];
  const block = typeof shared === 'number' ? shared : inputs;
  const blocks = Math.ceil(inputs / block);
  const place = (row: number, column: number) => (shared === 'matrix' ? 0 : Math.floor(row / block) * outputs + column);
  const count = shared === 'matrix' ? 1 : blocks * outputs;
  const [least, most] = [new Array<number>(count).fill(0), new Array<number>(count).fill(0)];
  values.forEach((value, at) => {
    const to = place(Math.floor(at / outputs), at % outputs);
    least[to] = Math.min(least[to]!, value);
    most[to] = Math.max(most[to]!, value);
  });
  const top = 2 ** bits - 1;
  const scales = Float32Array.from(least, (low, at) =>
    isSigned ? Math.max(-low, most[at]!) / (top >> 1) : (most[at]! - low) / top,
  );
  const zeros = Array.from(scales, (scale, at) => (isSigned ? 0 : Math.round(-least[at]! / scale)));
  const codes = Array.from(values, (value, at) => {
    const from = place(Math.floor(at / outputs), at % outputs);
    const code = Math.round(value / scales[from]!) + zeros[from]!;
    return isSigned ? code : Math.min(top, Math.max(0, code));
  });
  const listDims = shared === 'matrix' ? [] : shared === 'output' ? [outputs] : [blocks, outputs];
  const add = (what: string, dataType: number, tensorDims: number[], bytes: Uint8Array<ArrayBuffer>) => {
    graph.initializer.push(makeInitializer(`${name}_${what}`, dataType, tensorDims, bytes));
    return `${name}_${what}`;
  };
  graph.initializer.splice(
    graph.initializer.findIndex((tensor) => tensor.name === name),
    1,
  );
  const made = [
    add('quantized', TYPES[type], [inputs, outputs], packed(codes, bits)),
    add('scale', 1, listDims, new Uint8Array(scales.buffer)),
    ...(isSigned ? [] : [add('zero_point', TYPES[type], listDims, packed(zeros, bits))]),
  ];
  const attributes = {
    ...(shared !== 'matrix' && { axis: shared === 'output' ? 1 : 0 }),
    ...(typeof shared === 'number' && { block_size: shared }),
  };
  return makeNode({ op: 'DequantizeLinear', inputs: made, outputs: [name], attributes });
}

/** Codes as bytes, or two to a byte with the first in the low half. */
function packed(codes: readonly number[], bits: number): Uint8Array<ArrayBuffer> {
  if (bits === 8) return Uint8Array.from(codes, (code) => code & 255);
  return Uint8Array.from(
    { length: Math.ceil(codes.length / 2) },
    (_, at) => (codes[2 * at]! & 15) | (((codes[2 * at + 1] ?? 0) & 15) << 4),
  );
}
