import type { TensorProto } from 'onnx-buf';
import { ModelFormatError } from '../errors.js';
import type { ByteSource, SourceFolder } from './byte-source.js';
import { createExternalDataReader } from './external-data.js';
import { HOISTING_IR_VERSION, hoistConstants } from './hoist-constants.js';
import { inlineTensors } from './inline-tensors.js';
import type { ModelStorage, OnnxModel, TensorHandle } from './onnx-model.js';
import { readStructure, type StoredTensor } from './read-structure.js';
import { refuseNames } from './refuse-names.js';
import { sortNodes } from './sort-nodes.js';
import { findPayload, isExternal, isString } from './tensor-payload.js';
import { dropPayload } from './typed-elements.js';

/**
 * Loads an ONNX model without reading its large weights: these become handles.
 *
 * All forms of storage are supported (raw data, typed lists, external files). Constant nodes of the main graph with 1 KiB
 * or more, or with external data, become initializers. Nodes are sorted topologically. Strings remain in `proto`. Unknown
 * fields are retained.
 *
 * @param source the `.onnx` file
 * @param folder the folder of the file, with its external data
 * @throws ModelFormatError when the file, or one next to it, is missing, truncated or inconsistent.
 */
export async function loadModel(source: ByteSource, folder: SourceFolder): Promise<OnnxModel> {
  const { proto, initializers } = await readStructure(source);
  refuseNames(proto, source.name);
  sortNodes(proto.graph, source.name);
  const sources = { model: source, external: createExternalDataReader(folder) };
  const hoisted = hoistConstants(proto.graph, source.name);
  if (hoisted.length > 0 && proto.irVersion < HOISTING_IR_VERSION) proto.irVersion = HOISTING_IR_VERSION;
  const weights = new Map<string, TensorHandle>();
  const origins = new Map<string, string | undefined>();
  for (const stored of [...initializers, ...hoisted.map((tensor): StoredTensor => ({ tensor }))]) {
    const { tensor } = stored;
    checkName(tensor, source.name, origins);
    const payload = isString(tensor) && !isExternal(tensor) ? undefined : await findPayload(stored, sources);
    origins.set(tensor.name, payload?.externalFile);
    if (payload === undefined) continue;
    weights.set(tensor.name, payload.handle);
    dropPayload(tensor);
  }
  const inlinedFiles = await inlineTensors(proto, sources);
  proto.graph.initializer = [...initializers.map(({ tensor }) => tensor), ...hoisted];
  return { proto, weights, storage: describeStorage(weights, origins, inlinedFiles) };
}

function checkName({ name }: TensorProto, modelName: string, seen: ReadonlyMap<string, unknown>): void {
  if (name === '') throw new ModelFormatError(`${modelName}: an initializer has no name.`);
  if (name === '__proto__') throw new ModelFormatError(`${modelName}: a tensor is called "${name}".`);
  if (seen.has(name)) throw new ModelFormatError(`${modelName}: two tensors are called "${name}".`);
}

function describeStorage(
  weights: ReadonlyMap<string, TensorHandle>,
  origins: ReadonlyMap<string, string | undefined>,
  inlinedFiles: readonly string[],
): ModelStorage {
  const outside = [...weights].filter(([name]) => origins.get(name) !== undefined);
  if (outside.length === 0 && inlinedFiles.length === 0) return { kind: 'inline' };
  const sizes = outside.map(([, { byteLength }]) => byteLength);
  const files = outside.map(([name]) => origins.get(name)!);
  return {
    kind: 'external',
    files: [...new Set([...files, ...inlinedFiles])],
    thresholdBytes:
      outside.length === weights.size ? 0 : sizes.reduce((least, size) => Math.min(least, size), Infinity),
  };
}
