import { WireType } from '@bufbuild/protobuf/wire';
import {
  type GraphProto,
  GraphProtoSchema,
  type ModelProto,
  ModelProtoSchema,
  type TensorProto,
  TensorProtoSchema,
} from 'onnx-buf';
import { concatenate } from '../concatenate.js';
import { ModelFormatError } from '../errors.js';
import type { ByteSource } from './byte-source.js';
import { findDataType } from './data-types.js';
import { decodeMessage } from './decode-message.js';
import { countStorageForms } from './typed-elements.js';
import { type ByteRange, readAhead, type WireRecord, walkRecords } from './walk-records.js';

/** A top-level initializer; large payloads are not read. */
export interface StoredTensor {
  /** Without the payload when `unread` is present. */
  readonly tensor: TensorProto;
  /** Ranges of the source with the raw payload, in order. */
  readonly unread?: readonly ByteRange[];
}

/** A model without the payloads of its large initializers. */
export interface ModelStructure {
  /** With a graph, whose `initializer` list is empty. */
  readonly proto: ModelProto & { graph: GraphProto };
  readonly initializers: readonly StoredTensor[];
}

/** Shorter initializers are read with the structure, since seeking would cost more. */
const SMALL_TENSOR_BYTES = 4096;

/** Most bytes of nodes, shapes and small tensors: no LLM graph is larger, and V8's heap is limited to 4 GiB. */
const MAX_STRUCTURE_BYTES = 2 ** 30;

const MODEL_GRAPH = ModelProtoSchema.field.graph.number;
const GRAPH_INITIALIZER = GraphProtoSchema.field.initializer.number;
const TENSOR = TensorProtoSchema.field;

/** Fields of a tensor whose bytes in the file are the tensor's raw layout. */
const RAW_LAYOUT_FIELDS: readonly number[] = [TENSOR.rawData.number, TENSOR.floatData.number, TENSOR.doubleData.number];

/**
 * Reads all of a model but the payloads of its large initializers. Concatenated pieces of a protobuf message are a
 * message, so that the file without the initializers can be decoded.
 * @throws ModelFormatError when the bytes are not an ONNX model.
 */
export async function readStructure(source: ByteSource): Promise<ModelStructure> {
  const buffered = readAhead(source);
  const budget = { bytesLeft: MAX_STRUCTURE_BYTES };
  const model = await extractFields(buffered, [{ start: 0, end: source.byteLength }], isMessage(MODEL_GRAPH));
  const graph = await extractFields(buffered, model.matched, isMessage(GRAPH_INITIALIZER));
  const proto = decodeMessage(ModelProtoSchema, await readRanges(source, model.rest, budget), source.name);
  if (model.matched.length === 0) throw new ModelFormatError(`${source.name} is not an ONNX model: it has no graph.`);
  if (proto.opsetImport.length === 0) {
    throw new ModelFormatError(
      `${source.name} is not a complete ONNX model: it imports no operator set. Get the file again.`,
    );
  }
  const graphBytes = await readRanges(source, graph.rest, budget);
  const decoded = decodeMessage(GraphProtoSchema, graphBytes, `The graph of ${source.name}`);
  const initializers: StoredTensor[] = [];
  for (const range of graph.matched) initializers.push(await readTensor(buffered, range, budget));
  return { proto: Object.assign(proto, { graph: decoded }), initializers };
}

/** Reads one initializer without a large payload. */
async function readTensor(source: ByteSource, range: ByteRange, budget: Budget): Promise<StoredTensor> {
  const decode = async (ranges: readonly ByteRange[]) =>
    decodeMessage(
      TensorProtoSchema,
      await readRanges(source, ranges, budget),
      `An initializer at byte ${range.start} of ${source.name}`,
    );
  if (range.end - range.start < SMALL_TENSOR_BYTES) return { tensor: await decode([range]) };
  const payload = await extractFields(source, [range], (record) => isRawLayout(record));
  const tensor = await decode(payload.rest);
  if (payload.matched.length === 0) return { tensor };
  const [field, ...others] = new Set(payload.fields);
  const isClear = others.length === 0 && countStorageForms(tensor) === 0 && isRawLayoutOf(field, tensor.dataType);
  if (!isClear) {
    throw new ModelFormatError(
      `${source.name}: initializer "${tensor.name}" is stored in a list for another type, or in two ways at once.`,
    );
  }
  // For repeated raw_data the last one is valid; lists are concatenated.
  return { tensor, unread: field === TENSOR.rawData.number ? payload.matched.slice(-1) : payload.matched };
}

function isRawLayoutOf(field: number | undefined, dataType: number): boolean {
  const typed = findDataType(dataType)?.typed;
  return field === TENSOR.rawData.number || (typed !== undefined && field === TENSOR[typed].number);
}

/** Parts of a message: the values of some of its fields, and all other fields. */
interface Parts {
  /** Values without tag and length. */
  readonly matched: readonly ByteRange[];
  /** Field number of each. */
  readonly fields: readonly number[];
  /** Whole fields; neighbours merged. */
  readonly rest: readonly ByteRange[];
}

async function extractFields(
  source: ByteSource,
  ranges: readonly ByteRange[],
  isWanted: (record: WireRecord) => boolean,
): Promise<Parts> {
  const matched: ByteRange[] = [];
  const fields: number[] = [];
  const rest: { start: number; end: number }[] = [];
  for (const range of ranges) {
    for await (const record of walkRecords(source, range)) {
      const previous = rest.at(-1);
      if (isWanted(record)) {
        matched.push({ start: record.valueStart, end: record.end });
        fields.push(record.field);
      } else if (previous?.end === record.start) previous.end = record.end;
      else rest.push({ start: record.start, end: record.end });
    }
  }
  return { matched, fields, rest };
}

const isMessage = (field: number) => (record: WireRecord) =>
  record.field === field && record.wireType === WireType.LengthDelimited;

const isRawLayout = ({ field, wireType }: WireRecord) =>
  RAW_LAYOUT_FIELDS.includes(field) && wireType === WireType.LengthDelimited;

/** Bytes that may still be read into memory. */
interface Budget {
  bytesLeft: number;
}

async function readRanges(source: ByteSource, ranges: readonly ByteRange[], budget: Budget) {
  budget.bytesLeft -= ranges.reduce((sum, { start, end }) => sum + end - start, 0);
  if (budget.bytesLeft < 0) {
    throw new ModelFormatError(
      `${source.name} has more than ${MAX_STRUCTURE_BYTES} bytes besides its weights; no language model does.`,
    );
  }
  const chunks: Uint8Array[] = [];
  for (const { start, end } of ranges) chunks.push(await source.read(start, end - start));
  return concatenate(Uint8Array, chunks);
}
