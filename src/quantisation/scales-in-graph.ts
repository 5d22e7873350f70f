import type { NodeProto } from 'onnx-buf';
import { makeNode, makeValueInfo, type NodeSpec } from '../onnx/build.js';
import { FLOAT32, INT16 } from '../onnx/data-types.js';
import { copyModel, setWeight } from '../onnx/edit-weights.js';
import { encodeFloats, readFloat32 } from '../onnx/float-encoding.js';
import type { OnnxModel, TensorHandle } from '../onnx/onnx-model.js';
import { computedHandle, integersHandle } from '../onnx/tensor-handle.js';
import { blockCount, codecOf } from './block-codes.js';
import { freshName } from './dequantise-site.js';
import { readCodes, type StoredCodes } from './store-codes.js';
import type { QuantisedWeight } from './write-blocks.js';

/** A model that computes weights from codes, and the initializers of their scales. */
export interface ScaledModel {
  readonly model: OnnxModel;
  /** Name of the float32 initializer with the scales `[N, blocks, 1]`, by the name of the weight. */
  readonly scales: ReadonlyMap<string, string>;
}

/**
 * Replaces dequantised weights by nodes that compute them, `w = (code - zero point) scale`, so that scales can be trained while codes
 * are constant. The given model is not changed.
 * @param weights Quantised weights of the model, with integer levels; tables that are looked up remain floats.
 */
export function withScalesInGraph(given: OnnxModel, weights: readonly QuantisedWeight[]): ScaledModel {
  const model = copyModel(given);
  const graph = model.proto.graph!;
  const computed = weights.filter(({ lookups }) => lookups.length === 0);
  const added = computed.map((weight) => addScales(model, weight));
  const names = new Set(computed.map(({ name }) => name));
  graph.initializer = graph.initializer.filter(({ name }) => !names.has(name));
  for (const name of names) model.weights.delete(name);
  graph.node.unshift(...added.flatMap(({ nodes }) => nodes));
  return { model, scales: new Map(added.map(({ scales }, at) => [computed[at]!.name, scales])) };
}

/** Adds the levels and the scales of a weight. @returns Nodes that compute it, and the name of its scales. */
function addScales(
  model: OnnxModel,
  { name, stored, inputAxis }: QuantisedWeight,
): { readonly nodes: readonly NodeProto[]; readonly scales: string } {
  const { dataType, dims } = model.weights.get(name)!;
  const { outCount, inCount, grid } = stored;
  const blocks = blockCount(inCount, grid);
  const width = blocks * grid.blockSize;
  const add = (suffix: string, handle: TensorHandle): string => {
    const fresh = freshName(model, `${name}_${suffix}`);
    setWeight(model, fresh, handle);
    return fresh;
  };
  const ints = (suffix: string, values: readonly number[]) => add(suffix, integersHandle(values));
  const scales = add('scales', floatScales(stored, blocks));
  const steps: Pick<NodeSpec, 'op' | 'inputs' | 'attributes'>[] = [
    // As integers, levels are not taken for weights to train.
    { op: 'Cast', inputs: [add('levels', levelsOf(stored, blocks))], attributes: { to: FLOAT32 } },
    { op: 'Mul', inputs: [scales] },
    { op: 'Reshape', inputs: [ints('shape', [outCount, width])] },
    ...(width > inCount
      ? [{ op: 'Slice', inputs: [ints('start', [0]), ints('end', [inCount]), ints('axis', [1])] }]
      : []),
    ...(dataType === FLOAT32 ? [] : [{ op: 'Cast', inputs: [], attributes: { to: dataType } }]),
    ...(inputAxis === 1 ? [] : [{ op: 'Transpose', inputs: [], attributes: { perm: [1, 0] } }]),
  ];
  const valueAt = (at: number) => (at === steps.length - 1 ? name : `${scales}/${at}`);
  const nodes = steps.map((step, at) =>
    makeNode({ ...step, inputs: [...(at === 0 ? [] : [valueAt(at - 1)]), ...step.inputs], outputs: [valueAt(at)] }),
  );
  // Head sizes follow from the shapes of weights.
  model.proto.graph!.valueInfo.push(makeValueInfo(name, dataType, dims));
  return { nodes, scales };
}

const floatScales = ({ scales, outCount }: StoredCodes, blocks: number): TensorHandle =>
  computedHandle({ dataType: FLOAT32, dims: [outCount, blocks, 1] }, async () =>
    encodeFloats(FLOAT32, await readFloat32(scales)),
  );

/** Values of the codes at a scale of 1, `[N, blocks, blockSize]`. */
function levelsOf(stored: StoredCodes, blocks: number): TensorHandle {
  const { outCount, grid } = stored;
  return computedHandle({ dataType: INT16, dims: [outCount, blocks, grid.blockSize] }, async () => {
    const { codes, zeroPoints } = await readCodes(stored);
    const { levelOf } = codecOf(grid);
    const middle = 2 ** (grid.bits - 1);
    const levels = new Int16Array(codes.length);
    for (const [at, code] of codes.entries())
      levels[at] = levelOf(code, zeroPoints?.[Math.floor(at / grid.blockSize)] ?? middle);
    return new Uint8Array(levels.buffer);
  });
}
