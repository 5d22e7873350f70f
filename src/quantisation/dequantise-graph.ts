import type { NodeProto } from 'onnx-buf';
import { ModelFormatError } from '../errors.js';
import { intAttribute } from '../graph/attributes.js';
import { makeNode } from '../graph/build.js';
import { dropUnusedNodes } from '../graph/drop-unused.js';
import {
  type GraphIndex,
  indexGraph,
  makerOf,
  nodeLabel,
  onlyReader,
  qualifiedOp,
  throughReshape,
} from '../graph/graph-index.js';
import { dataTypeNumber, findDataType } from '../onnx/data-types.js';
import { copyModel, setWeight } from '../onnx/edit-weights.js';
import { encodeFloats, isFloatType, readFloat32 } from '../onnx/float-encoding.js';
import type { OnnxModel, TensorHandle } from '../onnx/onnx-model.js';
import { workedOutHandle } from '../onnx/tensor-handle.js';
import { type BlockGrid, blockCount } from './block-codes.js';
import type { DtypeName } from './dtypes.js';
import type { LevelsName } from './levels.js';
import { readLinearCodes } from './linear-codes.js';
import { replaceNodes } from './replace-nodes.js';
import { gatherLookups } from './spell-lookups.js';
import { dequantisedHandle, type StoredCodes } from './store-codes.js';
import { QUANT_TYPES } from './write-blocks.js';

/** A weight that stands for codes, or that codes of a grid were made of. */
export interface CodedHandle extends TensorHandle {
  readonly coded: {
    readonly grid: BlockGrid;
    /** Absent where the weight is not exactly what codes stand for. */
    readonly stored?: StoredCodes;
    readonly inputAxis: 0 | 1;
  };
}

/** The codes that a weight stands for; undefined for plain floats. */
export const codesBehind = (handle: TensorHandle | undefined): CodedHandle['coded'] | undefined =>
  handle !== undefined && 'coded' in handle ? (handle as CodedHandle).coded : undefined;

/**
 * The model with float weights in place of codes, worked out whenever they are read: products over blocks (`MatMulNBits`), lookups
 * of them (`GatherBlockQuantized`, or see `spellLookups`), weights behind `DequantizeLinear`, and products whose activations are rounded as they come
 * (`DynamicQuantizeLinear`, `MatMulInteger`). What is of another form stays as it is.
 *
 * @returns the model given where it holds no codes.
 * @throws ModelFormatError where codes contradict the attributes beside them.
 */
export function dequantiseGraph(given: OnnxModel): OnnxModel {
  if (!given.proto.graph!.node.some((node) => RULES[qualifiedOp(node)] !== undefined)) return given;
  const { twin } = given;
  const model = copyModel(given);
  gatherLookups(model);
  const index = indexGraph(model.proto.graph!);
  const replaced = new Map<NodeProto, readonly NodeProto[]>();
  const site: Site = { model, index, replaced, tables: new Map() };
  // Lookups first: products over the same codes read their table.
  for (const op of Object.keys(RULES))
    for (const node of index.nodes) if (qualifiedOp(node) === op) RULES[op]!(node, site);
  replaceNodes(model.proto.graph!, replaced);
  dropUnused(model);
  return { ...model, coded: given, ...(twin && { twin: { ...twin, model: dequantiseGraph(twin.model) } }) };
}

function dropUnused({ proto, weights }: OnnxModel): void {
  const graph = proto.graph!;
  const alive = dropUnusedNodes(graph);
  graph.initializer = graph.initializer.filter(({ name }) => alive.has(name));
  for (const name of weights.keys()) if (!alive.has(name)) weights.delete(name);
  graph.valueInfo = [];
}

/** The dtype nearest to the form of a model's codes: `blocks` can be written as they are, other forms as that dtype. */
export function formOfCodes({ proto, weights }: OnnxModel): 'blocks' | DtypeName {
  const nodes = proto.graph!.node;
  const has = (...ops: string[]): boolean => nodes.some(({ opType }) => ops.includes(opType));
  if (has('MatMulNBits', 'MatMulBnb4', 'GatherBlockQuantized')) return 'blocks';
  if (has('MatMulInteger')) return 'uint8';
  const codes = nodes
    .filter(({ opType }) => opType === 'DequantizeLinear')
    .map(({ input }) => weights.get(input[0] ?? ''));
  return codes.some((handle) => handle !== undefined && (findDataType(handle.dataType)?.bits ?? 8) < 8) ? 'q4' : 'q8';
}

interface Site {
  readonly model: OnnxModel;
  readonly index: GraphIndex;
  readonly replaced: Map<NodeProto, readonly NodeProto[]>;
  /** Float tables by the initializer of their codes. */
  readonly tables: Map<string, string>;
}

const RULES: Readonly<Record<string, (node: NodeProto, site: Site) => void>> = {
  'com.microsoft.GatherBlockQuantized': dequantiseLookup,
  'com.microsoft.MatMulNBits': dequantiseProduct,
  'com.microsoft.MatMulBnb4': dequantiseTable,
  DequantizeLinear: dequantiseConstant,
  MatMulInteger: dequantiseDynamic,
};

/** See `com.microsoft.MatMulNBits`. */
const LEAST_BLOCK = 16;

const UINT8 = dataTypeNumber('uint8');
const INT32 = dataTypeNumber('int32');

/** Initializers of a weight in blocks, and its shape. */
interface BlockPlaces {
  readonly codes: string;
  readonly scales: string;
  readonly zeroPoints: string;
  readonly outCount: number;
  readonly inCount: number;
  readonly levels?: LevelsName | undefined;
  /** Block of each input. */
  readonly groups?: string | undefined;
}

/** Codes of a node in blocks; undefined where they have a form of their own. @throws ModelFormatError */
function findBlocks(
  node: NodeProto,
  { model }: Site,
  { codes, scales, zeroPoints, outCount, inCount, levels, groups: order = '' }: BlockPlaces,
): StoredCodes | undefined {
  const { weights } = model;
  const [found, scale, zero] = [weights.get(codes), weights.get(scales), weights.get(zeroPoints)];
  if (found?.dataType !== UINT8 || scale === undefined || !isFloatType(scale.dataType)) return undefined;
  const groups = weights.get(order);
  const isFloating = zero !== undefined && isFloatType(zero.dataType);
  if (zeroPoints !== '' && zero?.dataType !== UINT8 && !isFloating) return undefined;
  if (order !== '' && groups?.dataType !== INT32) return undefined;
  const [bits, blockSize] = [intAttribute(node, 'bits', 4), intAttribute(node, 'block_size', 32)];
  if (bits !== 2 && bits !== 4 && bits !== 8) return undefined;
  if (blockSize < LEAST_BLOCK || !Number.isInteger(Math.log2(blockSize)))
    throw new ModelFormatError(
      `${nodeLabel(node)} has a block size of ${blockSize}; expected a power of two of at least ${LEAST_BLOCK}. Get the file again.`,
    );
  const grid: BlockGrid = {
    bits,
    blockSize,
    hasZeroPoints: zero !== undefined,
    scaleType: scale.dataType === dataTypeNumber('float') ? 'float32' : 'float16',
    ...(levels && { levels }),
  };
  const blocks = blockCount(inCount, grid);
  const expected = {
    codes: (outCount * blocks * blockSize * bits) / 8,
    scales: outCount * blocks,
    'zero points': isFloating ? outCount * blocks : outCount * Math.ceil((blocks * bits) / 8),
    inputs: inCount,
  };
  const there = {
    codes: found.byteLength,
    scales: countOf(scale),
    'zero points': zero === undefined ? expected['zero points'] : countOf(zero),
    inputs: groups === undefined ? inCount : Math.min(countOf(groups), inCount),
  };
  for (const what of Object.keys(expected) as (keyof typeof expected)[]) {
    if (there[what] === expected[what]) continue;
    throw new ModelFormatError(
      `${nodeLabel(node)} has ${there[what]} ${what} where ${outCount} rows of ${inCount} weights in blocks of ${blockSize} take ${expected[what]}. Get the file again.`,
    );
  }
  const parts = { ...(zero && { zeroPoints: zero }), ...(groups && { groups }) };
  return { grid, outCount, inCount, codes: found, scales: scale, ...parts };
}

const countOf = ({ dims }: TensorHandle): number => dims.reduce((product, dim) => product * dim, 1);

/** Puts a float weight in the place of codes. */
function addWeight(model: OnnxModel, codes: string, stored: StoredCodes, inputAxis: 0 | 1): string {
  const base = codes.replace(/_(Q\d+|quantized|quant|Bnb4)$/i, '');
  let name = base;
  for (let count = 2; model.weights.has(name); count += 1) name = `${base}_${count}`;
  const { outCount, inCount, scales } = stored;
  const dims = inputAxis === 1 ? [outCount, inCount] : [inCount, outCount];
  const handle: CodedHandle = {
    ...dequantisedHandle({ dataType: scales.dataType, dims }, stored, inputAxis),
    coded: { grid: stored.grid, stored, inputAxis },
  };
  setWeight(model, name, handle);
  return name;
}

function dequantiseLookup(node: NodeProto, site: Site): void {
  const { model, index, replaced, tables } = site;
  const [table = '', ids = '', scales = '', zeroPoints = ''] = node.input;
  const codes = throughReshape(index, table);
  const [outCount = 0, bytes = 0] = rowsOf(model, codes);
  const bits = intAttribute(node, 'bits', 4);
  const isRows = intAttribute(node, 'gather_axis', 0) === 0 && Math.abs(intAttribute(node, 'quantize_axis', 1)) === 1;
  if (!isRows) return;
  const stored = findBlocks(node, site, { codes, scales, zeroPoints, outCount, inCount: (bytes * 8) / bits });
  if (stored === undefined) return;
  const name = tables.get(codes) ?? addWeight(model, codes, stored, 1);
  tables.set(codes, name);
  replaced.set(node, [
    makeNode({
      op: 'Gather',
      name: plainName(node),
      inputs: [name, ids],
      outputs: [...node.output],
      attributes: { axis: 0 },
    }),
  ]);
}

/** `[V, bytes]` of codes that lie in blocks. */
function rowsOf({ weights }: OnnxModel, codes: string): readonly number[] {
  const handle = weights.get(codes);
  const [rows = 1] = handle?.dims ?? [];
  return [rows, (handle?.byteLength ?? 0) / rows];
}

function dequantiseProduct(node: NodeProto, site: Site): void {
  const { model, index, replaced, tables } = site;
  const [input = '', packed = '', scales = '', zeroPoints = '', groups = '', bias = ''] = node.input;
  if (intAttribute(node, 'weight_prepacked', 0) !== 0) return;
  const codes = throughReshape(index, packed);
  const [outCount, inCount] = [intAttribute(node, 'N', 0), intAttribute(node, 'K', 0)];
  const stored = findBlocks(node, site, { codes, scales, zeroPoints, groups, outCount, inCount });
  if (stored === undefined) return;
  const [result = ''] = node.output;
  const product = bias === '' ? result : `${result}/unbiased`;
  const table = tables.get(codes);
  const weight = table === undefined ? addWeight(model, codes, stored, 0) : `${table}/turned/${result}`;
  replaced.set(node, [
    ...(table === undefined
      ? []
      : [makeNode({ op: 'Transpose', inputs: [table], outputs: [weight], attributes: { perm: [1, 0] } })]),
    makeNode({ op: 'MatMul', name: plainName(node), inputs: [input, weight], outputs: [product] }),
    ...(bias === '' ? [] : [makeNode({ op: 'Add', inputs: [product, bias], outputs: [result] })]),
  ]);
}

/** Products over a table's levels; blocks that go on in the next row stay unread. */
function dequantiseTable(node: NodeProto, site: Site): void {
  const { model, replaced } = site;
  const [input = '', codes = '', scales = ''] = node.input;
  const [outCount, inCount] = [intAttribute(node, 'N', 0), intAttribute(node, 'K', 0)];
  const type = intAttribute(node, 'quant_type', 1);
  const levels = (Object.keys(QUANT_TYPES) as LevelsName[]).find((name) => QUANT_TYPES[name] === type);
  if (levels === undefined || inCount % intAttribute(node, 'block_size', 32) !== 0) return;
  if (intAttribute(node, 'transB', 1) !== 1) return;
  const stored = findBlocks(node, site, { codes, scales, zeroPoints: '', outCount, inCount, levels });
  if (stored === undefined) return;
  const weight = addWeight(model, codes, stored, 0);
  replaced.set(node, [
    makeNode({ op: 'MatMul', name: plainName(node), inputs: [input, weight], outputs: [...node.output] }),
  ]);
}

const plainName = ({ name }: NodeProto): string => name.replace(/_(Q\d+|quant|Bnb4)$/i, '');

/** A constant behind DequantizeLinear is a float constant, and so is a table whose rows are looked up before. */
function dequantiseConstant(node: NodeProto, { model, index, replaced, tables }: Site): void {
  const [codes = '', scales = '', zeroPoints = ''] = node.input;
  const lookup = makerOf(index, codes);
  const isLookup = lookup?.opType === 'Gather' && intAttribute(lookup, 'axis', 0) === 0;
  const table = isLookup ? lookup.input[0]! : codes;
  const [found, scale] = [model.weights.get(table), model.weights.get(scales)];
  const zero = model.weights.get(zeroPoints);
  const [result = ''] = node.output;
  if (found === undefined || scale === undefined || (zeroPoints !== '' && zero === undefined)) return;
  // Rows that were looked up have no scale of their own here.
  if (model.weights.has(result) || (isLookup && scale.dims.some((dim) => dim > 1))) return;
  const layout = { axis: intAttribute(node, 'axis', 1), blockSize: intAttribute(node, 'block_size', 0) };
  const name = isLookup ? (tables.get(table) ?? `${table}/floats`) : result;
  setWeight(model, name, floatsBehind(found, { scale, zero, ...layout }));
  if (!isLookup) return void replaced.set(node, []);
  tables.set(table, name);
  const inputs = [name, lookup.input[1]!];
  replaced.set(node, [makeNode({ op: 'Gather', name: plainName(lookup), inputs, outputs: [result] })]);
}

/**
 * A product whose activations are rounded as they come, with the two nodes that scale its sums. Codes that are turned for it are a
 * table, whose rows are looked up too.
 */
function dequantiseDynamic(node: NodeProto, site: Site): void {
  const { model, index, replaced } = site;
  const [rounded = '', codes = '', , zeroPoints = ''] = node.input;
  const rounding = makerOf(index, rounded);
  const cast = onlyReader(index, node.output[0]!, 'Cast');
  const scaled = cast && onlyReader(index, cast.output[0]!, 'Mul');
  const factors = scaled && makerOf(index, scaled.input.find((value) => value !== cast.output[0]) ?? '');
  const turned = makerOf(index, codes)?.opType === 'Transpose';
  const table = turned ? makerOf(index, codes)!.input[0]! : codes;
  const scales = (factors?.input ?? []).map((value) => throughReshape(index, value));
  const scale = model.weights.get(scales.find((value) => model.weights.has(value)) ?? '');
  const [found, zero] = [model.weights.get(table), model.weights.get(zeroPoints)];
  if (rounding?.opType !== 'DynamicQuantizeLinear' || factors?.opType !== 'Mul' || found === undefined) return;
  if (scale === undefined || (zeroPoints !== '' && zero === undefined)) return;
  const name = `${table}/floats`;
  const layout = { scale, zero, axis: turned ? 0 : 1, blockSize: 0 };
  if (!model.weights.has(name)) {
    setWeight(model, name, floatsBehind(found, layout));
    if (turned) dequantiseRows(table, name, site);
  }
  const [result = ''] = scaled!.output;
  const weight = turned ? `${name}/turned/${result}` : name;
  replaced.set(scaled!, [
    ...(turned ? [makeNode({ op: 'Transpose', inputs: [name], outputs: [weight], attributes: { perm: [1, 0] } })] : []),
    makeNode({ op: 'MatMul', name: plainName(node), inputs: [rounding.input[0]!, weight], outputs: [result] }),
  ]);
}

/** Rows of codes that are looked up, and scaled by nodes of their own. */
function dequantiseRows(table: string, name: string, { index, replaced }: Site): void {
  for (const at of index.consumersOf.get(table) ?? []) {
    const lookup = index.nodes[at]!;
    const cast = lookup.opType === 'Gather' ? onlyReader(index, lookup.output[0]!, 'Cast') : undefined;
    const centred = cast && onlyReader(index, cast.output[0]!, 'Sub');
    const scaled = centred && onlyReader(index, centred.output[0]!, 'Mul');
    if (scaled === undefined) continue;
    const inputs = [name, lookup.input[1]!];
    replaced.set(scaled, [makeNode({ op: 'Gather', name: plainName(lookup), inputs, outputs: [...scaled.output] })]);
  }
}

/** Where scales lie beside codes: one in all, one for each index of an axis, or one for so many along it. */
interface LinearLayout {
  readonly scale: TensorHandle;
  readonly zero: TensorHandle | undefined;
  readonly axis: number;
  readonly blockSize: number;
}

/** A float weight that is worked out of linear codes whenever it is read. */
function floatsBehind(codes: TensorHandle, { scale, zero, axis, blockSize }: LinearLayout): TensorHandle {
  const { dims } = codes;
  const { dataType } = scale;
  return workedOutHandle({ dataType, dims }, async () => {
    const values = await readLinearCodes(codes, {
      scales: await readFloat32(scale),
      zero,
      axis: axis < 0 ? axis + dims.length : axis,
      blockSize,
    });
    return encodeFloats(dataType, values);
  });
}
