import type { NodeProto } from 'onnx-buf';
import { OptionError } from '../errors.js';
import { copyModel, setWeight } from '../onnx/edit-weights.js';
import { decodeFloats, encodeFloats, isFloatType } from '../onnx/float-encoding.js';
import type { OnnxModel, TensorHandle } from '../onnx/onnx-model.js';
import { computedHandle } from '../onnx/tensor-handle.js';
import { type CodedHandle, quantisedSource } from './coded-handle.js';

/**
 * A model that was read from codes, with the original weights in their place: those of a float model of the same
 * export. A weight is found by its name, or by the name of the node that reads it. Weights written in the model's own form are
 * rounded again to its grids.
 * @param place Where the float model is, for messages.
 * @throws OptionError where there are no codes, or the float model lacks a weight or holds codes itself.
 */
export function useOriginalWeights(given: OnnxModel, floats: OnnxModel, place: string): OnnxModel {
  if (given.coded === undefined)
    throw new OptionError(
      'weightsFrom has no effect: the model holds floats itself; leave it out, or give a quantised model',
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
    const taken: CodedHandle = { ...retyped(found, handle), coded: { ...coded, isTaken: true } };
    setWeight(model, name, taken);
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

/** Which weights a graph's nodes read, by the nodes' names. */
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

/** A weight's numbers in another's float type. */
function retyped(weight: TensorHandle, { dataType, dims }: TensorHandle): TensorHandle {
  if (weight.dataType === dataType) return { ...weight, dims };
  return computedHandle({ dataType, dims }, async () =>
    encodeFloats(dataType, decodeFloats(weight.dataType, await weight.read())),
  );
}
