import type { NodeProto } from 'onnx-buf';
import { findAttribute, intAttribute } from '../onnx/attributes.js';
import { makeFloatInitializer, makeInt64Initializer, makeNode, type NodeSpec } from '../onnx/build.js';
import { FLOAT32, UINT8 } from '../onnx/data-types.js';
import { setWeight } from '../onnx/edit-weights.js';
import { decodeFloats } from '../onnx/float-encoding.js';
import {
  type GraphIndex,
  indexGraph,
  onlyConsumer,
  producerNode,
  qualifiedOp,
  throughCast,
  throughReshape,
} from '../onnx/graph-index.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import type { ValueFacts } from '../onnx/value-facts.js';
import { replaceNodes } from './replace-nodes.js';

/** Default zero point of `GatherBlockQuantized`, by bits. */
const MIDDLES: ReadonlyMap<number, number> = new Map([
  [8, 128],
  [4, 8],
]);

/** Number of 4-bit levels: a byte has two codes, the first in its lower half. */
const LEVEL_COUNT = 16;

/**
 * Expands lookups of codes of four and eight bits (`GatherBlockQuantized`) to standard operators, in place: ONNX Runtime's
 * WebAssembly with WebGPU has a kernel for the former only on WebGPU. Rows of codes and of scales are looked up, and
 * multiplied in blocks.
 * @param facts of the float model, for the rank of results
 */
export function expandGathers(model: OnnxModel, facts: ValueFacts): void {
  const graph = model.proto.graph!;
  const index = indexGraph(graph);
  const replaced = new Map<NodeProto, readonly NodeProto[]>();
  for (const node of index.nodes) {
    const rank = facts.get(node.output[0] ?? '')?.dims.length;
    const middle = node.input.length === 3 ? MIDDLES.get(intAttribute(node, 'bits', 4)) : undefined;
    if (qualifiedOp(node) !== 'com.microsoft.GatherBlockQuantized' || middle === undefined || rank === undefined)
      continue;
    replaced.set(node, expand(node, { rank, middle }, { model, index }));
  }
  replaceNodes(graph, replaced);
}

interface Place {
  readonly model: OnnxModel;
  readonly index: GraphIndex;
}

interface GatherForm {
  /** Rank of the result. */
  readonly rank: number;
  /** Code of zero. */
  readonly middle: number;
}

function expand(node: NodeProto, { rank, middle }: GatherForm, { model, index }: Place): readonly NodeProto[] {
  const [rows = '', ids = '', scales = ''] = node.input;
  const [result = ''] = node.output;
  const codes = throughReshape(index, rows);
  const handle = model.weights.get(codes)!;
  const blockSize = intAttribute(node, 'block_size', 128);
  const [rowCount = 1] = handle.dims;
  const isPacked = middle < LEVEL_COUNT;
  const blockBytes = isPacked ? blockSize / 2 : blockSize;
  setWeight(model, codes, { ...handle, dims: [rowCount, handle.byteLength / rowCount / blockBytes, blockBytes] });
  const stored = throughCast(index, scales);
  const { dataType } = model.weights.get(stored)!;
  const named = (suffix: string) => `${result}/${suffix}`;
  // Reshape copies the dims of zeros.
  const sameDims = new Array<number>(rank - 1).fill(0);
  const constant = (suffix: string, tensor: ReturnType<typeof makeInt64Initializer>) =>
    makeNode({ op: 'Constant', inputs: [], outputs: [named(suffix)], attributes: { value: { tensor } } });
  const emit = (op: string, inputs: readonly string[], suffix: string, more: Partial<NodeSpec> = {}) =>
    makeNode({ op, inputs, outputs: [suffix === '' ? result : named(suffix)], ...more });
  const toSingle = { attributes: { to: FLOAT32 } };
  const isShort = dataType !== FLOAT32;
  const isResultShort = isShort && stored === scales;
  // The two codes of a byte, on a new last axis.
  const halves = [
    constant('half', makeFloatInitializer('', [], [LEVEL_COUNT])),
    emit('Div', [named('bytes'), named('half')], 'quotient'),
    emit('Floor', [named('quotient')], 'second'),
    emit('Mul', [named('second'), named('half')], 'raised'),
    emit('Sub', [named('bytes'), named('raised')], 'first'),
    constant('apart', makeInt64Initializer('', [...sameDims, 0, 0, 1])),
    emit('Reshape', [named('first'), named('apart')], 'first_apart'),
    emit('Reshape', [named('second'), named('apart')], 'second_apart'),
    emit('Concat', [named('first_apart'), named('second_apart')], 'pairs', { attributes: { axis: rank + 1 } }),
    constant('together', makeInt64Initializer('', [...sameDims, 0, blockSize])),
    emit('Reshape', [named('pairs'), named('together')], 'floats'),
  ];
  return [
    emit('Gather', [codes, ids], 'codes', { name: node.name }),
    emit('Cast', [named('codes')], isPacked ? 'bytes' : 'floats', toSingle),
    ...(isPacked ? halves : []),
    constant('middle', makeFloatInitializer('', [], [middle])),
    emit('Sub', [named('floats'), named('middle')], 'levels'),
    emit('Gather', [stored, ids], isShort ? 'halves' : 'scales'),
    ...(isShort ? [emit('Cast', [named('halves')], 'scales', toSingle)] : []),
    constant('beside', makeInt64Initializer('', [...sameDims, 0, 1])),
    emit('Reshape', [named('scales'), named('beside')], 'factors'),
    emit('Mul', [named('levels'), named('factors')], 'blocks'),
    constant('shape', makeInt64Initializer('', [...sameDims, -1])),
    emit('Reshape', [named('blocks'), named('shape')], isResultShort ? 'row' : ''),
    ...(isResultShort ? [emit('Cast', [named('row')], '', { attributes: { to: dataType } })] : []),
  ];
}

/** A quantised lookup in standard operators. */
interface ExpandedGather {
  readonly gather: NodeProto;
  readonly bits: number;
  readonly scales: string;
  /** Whether the scales are cast to the result's type. */
  readonly castsScales: boolean;
  /** Node of the result. */
  readonly last: NodeProto;
}

/** Whether a model has lookups that `expandGathers` wrote. */
export const hasExpandedGathers = (model: OnnxModel): boolean =>
  findExpanded({ model, index: indexGraph(model.proto.graph!) }).length > 0;

/** Replaces the nodes of `expandGathers` by `GatherBlockQuantized`, in place. */
export function fuseGathers(model: OnnxModel): void {
  const index = indexGraph(model.proto.graph!);
  const replaced = new Map<NodeProto, readonly NodeProto[]>();
  for (const { gather, bits, scales, castsScales, last } of findExpanded({ model, index })) {
    const [codes = '', ids = ''] = gather.input;
    const [, , blockBytes = 0] = model.weights.get(codes)!.dims;
    const cast = `${last.output[0]}/scales_float`;
    const fused = makeNode({
      op: 'GatherBlockQuantized',
      domain: 'com.microsoft',
      name: gather.name,
      inputs: [codes, ids, castsScales ? cast : scales],
      outputs: [...last.output],
      attributes: { gather_axis: 0, quantize_axis: 1, block_size: (blockBytes * 8) / bits, bits },
    });
    const toSingle = { op: 'Cast', inputs: [scales], outputs: [cast], attributes: { to: FLOAT32 } };
    replaced.set(last, [...(castsScales ? [makeNode(toSingle)] : []), fused]);
  }
  replaceNodes(model.proto.graph!, replaced);
}

function findExpanded({ model, index }: Place): readonly ExpandedGather[] {
  return index.nodes.flatMap((centred) => {
    if (centred.opType !== 'Sub') return [];
    const middle = constantOf(producerNode(index, centred.input[1]!));
    const [bits] = [...MIDDLES].find(([, zero]) => zero === middle) ?? [];
    const from = (value: string | undefined, op: string) => {
      const node = value === undefined ? undefined : producerNode(index, value);
      return node?.opType === op ? node : undefined;
    };
    const pairs = bits === 4 ? from(from(centred.input[0], 'Reshape')?.input[0], 'Concat') : undefined;
    const second = from(from(from(pairs?.input[1], 'Reshape')?.input[0], 'Floor')?.input[0], 'Div');
    const cast = from(bits === 4 ? second?.input[0] : centred.input[0], 'Cast');
    const gather = from(cast?.input[0], 'Gather');
    const [codes = '', ids = ''] = gather?.input ?? [];
    const table = model.weights.get(codes);
    if (bits === undefined || gather === undefined) return [];
    if (table?.dataType !== UINT8 || table.dims.length !== 3) return [];
    const follow = (node: NodeProto | undefined, op: string) => node && onlyConsumer(index, node.output[0]!, op);
    const scaled = follow(centred, 'Mul');
    const row = follow(scaled, 'Reshape');
    if (scaled === undefined || row === undefined) return [];
    const factors = producerNode(index, scaled.input[1]!);
    const widened = factors?.opType === 'Reshape' ? producerNode(index, factors.input[0]!) : undefined;
    const scales = widened?.opType === 'Cast' ? producerNode(index, widened.input[0]!) : widened;
    if (scales?.opType !== 'Gather' || scales.input[1] !== ids || !model.weights.has(scales.input[0]!)) return [];
    const narrowed = widened === scales ? undefined : follow(row, 'Cast');
    const castsScales = widened !== scales && narrowed === undefined;
    return [{ gather, bits, scales: scales.input[0]!, castsScales, last: narrowed ?? row }];
  });
}

/** Value of a Constant node with a float scalar. */
function constantOf(node: NodeProto | undefined): number | undefined {
  const tensor = node?.opType === 'Constant' ? findAttribute(node, 'value')?.t : undefined;
  if (tensor === undefined || tensor.dims.length > 0) return undefined;
  return tensor.dataType === FLOAT32 && tensor.rawData.length === 4
    ? decodeFloats(FLOAT32, Uint8Array.from(tensor.rawData))[0]
    : undefined;
}
