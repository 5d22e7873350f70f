import type { NodeProto } from 'onnx-buf';
import { ModelFormatError } from '../errors.js';
import { intAttribute } from '../onnx/attributes.js';
import { makeNode } from '../onnx/build.js';
import { FLOAT16, FLOAT32, INT32, UINT8 } from '../onnx/data-types.js';
import { setWeight } from '../onnx/edit-weights.js';
import { isFloatType } from '../onnx/float-encoding.js';
import { nodeLabel, throughCast, throughReshape } from '../onnx/graph-index.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { elementCount } from '../onnx/value.js';
import { type BlockGrid, blockCount } from './block-codes.js';
import type { CodebookName } from './codebooks.js';
import { type CodedHandle, quantisedSource } from './coded-handle.js';
import { floatsName, plainName, type Site } from './dequantise-site.js';
import { dequantisedHandle, type StoredCodes } from './store-codes.js';
import { QUANT_TYPES } from './write-blocks.js';

/** See `com.microsoft.MatMulNBits`. */
const MIN_BLOCK = 16;

/** Initializers of a weight in blocks, and its shape. */
interface BlockPlaces {
  readonly codes: string;
  readonly scales: string;
  readonly zeroPoints: string;
  readonly outCount: number;
  readonly inCount: number;
  readonly codebook?: CodebookName | undefined;
  /** Block of each input. */
  readonly groups?: string | undefined;
}

/** Finds the codes in blocks of a node; undefined for unsupported forms. @throws ModelFormatError */
function findBlocks(
  node: NodeProto,
  { model, index }: Site,
  { codes, scales, zeroPoints, outCount, inCount, codebook, groups: order = '' }: BlockPlaces,
): StoredCodes | undefined {
  const { weights } = model;
  const storedScales = throughCast(index, scales);
  const [found, scale, zero] = [weights.get(codes), weights.get(storedScales), weights.get(zeroPoints)];
  if (found?.dataType !== UINT8 || scale === undefined || !isFloatType(scale.dataType)) return undefined;
  const castsScales = storedScales !== scales;
  if (castsScales && scale.dataType !== FLOAT16) return undefined;
  const groups = weights.get(order);
  const isFloating = zero !== undefined && isFloatType(zero.dataType);
  if (zeroPoints !== '' && zero?.dataType !== UINT8 && !isFloating) return undefined;
  if (order !== '' && groups?.dataType !== INT32) return undefined;
  const [bits, blockSize] = [intAttribute(node, 'bits', 4), intAttribute(node, 'block_size', 32)];
  if (bits !== 2 && bits !== 4 && bits !== 8) return undefined;
  if (blockSize < MIN_BLOCK || !Number.isInteger(Math.log2(blockSize)))
    throw new ModelFormatError(
      `${nodeLabel(node)} has a block size of ${blockSize}; expected a power of two of at least ${MIN_BLOCK}. Get the file again.`,
    );
  const grid: BlockGrid = {
    bits,
    blockSize,
    hasZeroPoints: zero !== undefined,
    scaleType: scale.dataType === FLOAT32 ? 'float32' : 'float16',
    castsScales,
    ...(codebook && { codebook }),
  };
  const blocks = blockCount(inCount, grid);
  const expected = {
    codes: (outCount * blocks * blockSize * bits) / 8,
    scales: outCount * blocks,
    'zero points': isFloating ? outCount * blocks : outCount * Math.ceil((blocks * bits) / 8),
    inputs: inCount,
  };
  const actual = {
    codes: found.byteLength,
    scales: elementCount(scale.dims),
    'zero points': zero === undefined ? expected['zero points'] : elementCount(zero.dims),
    inputs: groups === undefined ? inCount : Math.min(elementCount(groups.dims), inCount),
  };
  for (const part of Object.keys(expected) as (keyof typeof expected)[]) {
    if (actual[part] === expected[part]) continue;
    throw new ModelFormatError(
      `${nodeLabel(node)} has ${actual[part]} ${part}, but ${outCount} rows of ${inCount} weights in blocks of ${blockSize} need ${expected[part]}. Get the file again.`,
    );
  }
  const parts = { ...(zero && { zeroPoints: zero }), ...(groups && { groups }) };
  return { grid, outCount, inCount, codes: found, scales: scale, name: `"${codes}"`, ...parts };
}

/** Replaces codes by a float weight. */
function addWeight(
  model: OnnxModel,
  codes: string,
  {
    stored,
    inputAxis,
    accuracyLevel = 0,
  }: { readonly stored: StoredCodes; readonly inputAxis: 0 | 1; readonly accuracyLevel?: number },
): string {
  const name = floatsName(model, codes);
  const { grid, outCount, inCount, scales } = stored;
  const dataType = grid.castsScales ? FLOAT32 : scales.dataType;
  const dims = inputAxis === 1 ? [outCount, inCount] : [inCount, outCount];
  const handle: CodedHandle = {
    ...dequantisedHandle({ dataType, dims }, stored, inputAxis),
    coded: { codes: { form: 'blocks', stored, accuracyLevel } },
  };
  setWeight(model, name, handle);
  return name;
}

/** Sets the accuracy level of a table, which its products define after its lookups. */
function setAccuracyLevel(model: OnnxModel, table: string, accuracyLevel: number): void {
  const handle = model.weights.get(table)!;
  const { codes } = quantisedSource(handle)!;
  if (codes.form !== 'blocks') return;
  const updated: CodedHandle = { ...handle, coded: { codes: { ...codes, accuracyLevel } } };
  setWeight(model, table, updated);
}

/** Replaces a lookup of codes in blocks. */
export function dequantiseLookup(node: NodeProto, site: Site): void {
  const { model, index, replaced, tables } = site;
  const [table = '', ids = '', scales = '', zeroPoints = ''] = node.input;
  const codes = throughReshape(index, table);
  const [outCount = 0, bytes = 0] = rowsOf(model, codes);
  const bits = intAttribute(node, 'bits', 4);
  const isRows = intAttribute(node, 'gather_axis', 0) === 0 && Math.abs(intAttribute(node, 'quantize_axis', 1)) === 1;
  if (!isRows) return;
  const stored = findBlocks(node, site, { codes, scales, zeroPoints, outCount, inCount: (bytes * 8) / bits });
  if (stored === undefined) return;
  const name = tables.get(codes) ?? addWeight(model, codes, { stored, inputAxis: 1 });
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

/** Shape of a table of codes in bytes, `[V, bytes]`. */
function rowsOf({ weights }: OnnxModel, codes: string): readonly number[] {
  const handle = weights.get(codes);
  const [rows = 1] = handle?.dims ?? [];
  return [rows, (handle?.byteLength ?? 0) / rows];
}

/** Replaces a product over codes in blocks, which may also be those of a lookup table. */
export function dequantiseProduct(node: NodeProto, site: Site): void {
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
  const accuracyLevel = intAttribute(node, 'accuracy_level', 0);
  const weight =
    table === undefined
      ? addWeight(model, codes, { stored, inputAxis: 0, accuracyLevel })
      : `${table}/transposed/${result}`;
  if (table !== undefined) setAccuracyLevel(model, table, accuracyLevel);
  replaced.set(node, [
    ...(table === undefined
      ? []
      : [makeNode({ op: 'Transpose', inputs: [table], outputs: [weight], attributes: { perm: [1, 0] } })]),
    makeNode({ op: 'MatMul', name: plainName(node), inputs: [input, weight], outputs: [product] }),
    ...(bias === '' ? [] : [makeNode({ op: 'Add', inputs: [product, bias], outputs: [result] })]),
  ]);
}

/** Replaces a product over codes with a codebook; blocks that continue in the next row are not supported. */
export function dequantiseCodebook(node: NodeProto, site: Site): void {
  const { model, replaced } = site;
  const [input = '', codes = '', scales = ''] = node.input;
  const [outCount, inCount] = [intAttribute(node, 'N', 0), intAttribute(node, 'K', 0)];
  const type = intAttribute(node, 'quant_type', 1);
  const codebook = (Object.keys(QUANT_TYPES) as CodebookName[]).find((name) => QUANT_TYPES[name] === type);
  if (codebook === undefined || inCount % intAttribute(node, 'block_size', 32) !== 0) return;
  if (intAttribute(node, 'transB', 1) !== 1) return;
  const stored = findBlocks(node, site, { codes, scales, zeroPoints: '', outCount, inCount, codebook });
  if (stored === undefined) return;
  const weight = addWeight(model, codes, { stored, inputAxis: 0 });
  replaced.set(node, [
    makeNode({ op: 'MatMul', name: plainName(node), inputs: [input, weight], outputs: [...node.output] }),
  ]);
}
