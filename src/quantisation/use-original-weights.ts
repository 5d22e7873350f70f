import type { NodeProto } from 'onnx-buf';
import { OptionError } from '../errors.js';
import { copyModel, setWeight } from '../onnx/edit-weights.js';
import { decodeFloats, encodeFloats, isFloatType } from '../onnx/float-encoding.js';
import type { OnnxModel, TensorHandle } from '../onnx/onnx-model.js';
import { computedHandle } from '../onnx/tensor-handle.js';
import { type CodedHandle, quantisedSource } from './coded-handle.js';

/**
 * Replaces the dequantised weights of a model by the original ones, from a float model of the same export. A weight is found
 * by its name, or by the name of the node that reads it.
 * @param place Path of the float model, for messages.
 * @throws OptionError for a model without codes, or a float model that lacks a weight or has codes.
 */
export function useOriginalWeights(given: OnnxModel, floats: OnnxModel, place: string): OnnxModel {
  if (given.coded === undefined)
    throw new OptionError(
      'weightsFrom has no effect: the model is not quantised; leave it out, or give a quantised model',
      { option: 'weightsFrom' },
    );
  const model = copyModel(given);
  const byReader = weightsByReader(floats);
  const readers = readersByWeight(given);
  for (const [name, handle] of given.weights) {
    const coded = quantisedSource(handle);
    if (coded === undefined) continue;
    const candidates = [name, ...(readers.get(name) ?? []).map((reader) => byReader.get(reader) ?? '')];
    const found = candidates
      .map((candidate) => floats.weights.get(candidate))
      .find((weight) => weight !== undefined && isSource(weight, handle));
    if (found === undefined)
      throw new OptionError(
        `weightsFrom: ${place} has no float weight [${handle.dims}] "${name}", nor one read by a node of the same name; give the float model of the same export`,
        { option: 'weightsFrom' },
      );
    const original: CodedHandle = { ...retyped(found, handle), coded: { ...coded, isOriginal: true } };
    setWeight(model, name, original);
  }
  const { noPastBranch } = given;
  return {
    ...model,
    ...(noPastBranch && {
      noPastBranch: {
        ...noPastBranch,
        model: useOriginalWeights(noPastBranch.model, floats.noPastBranch?.model ?? floats, place),
      },
    }),
  };
}

const isSource = (weight: TensorHandle, { dims }: TensorHandle): boolean =>
  isFloatType(weight.dataType) && quantisedSource(weight) === undefined && weight.dims.join() === dims.join();

/** Weights that a graph's nodes read, by node name. */
function weightsByReader({ proto, weights }: OnnxModel): Map<string, string> {
  return new Map(
    proto.graph!.node.flatMap((node) => weightsOf(node, weights).map((weight) => [node.name, weight] as const)),
  );
}

function readersByWeight({ proto, weights }: OnnxModel): Map<string, string[]> {
  const readers = new Map<string, string[]>();
  for (const node of proto.graph!.node)
    for (const weight of weightsOf(node, weights)) readers.set(weight, [...(readers.get(weight) ?? []), node.name]);
  return readers;
}

const weightsOf = ({ name, input }: NodeProto, weights: OnnxModel['weights']): string[] =>
  name === '' ? [] : input.filter((value) => weights.get(value)?.dims.length === 2);

/** Converts a weight to the float type of another one. */
function retyped(weight: TensorHandle, { dataType, dims }: TensorHandle): TensorHandle {
  if (weight.dataType === dataType) return { ...weight, dims };
  return computedHandle({ dataType, dims }, async () =>
    encodeFloats(dataType, decodeFloats(weight.dataType, await weight.read())),
  );
}
