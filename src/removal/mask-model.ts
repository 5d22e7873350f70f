import { findRouterScores } from '../architecture/router-scores.js';
import type { Random } from '../linalg/random.js';
import { BFLOAT16, FLOAT16, FLOAT32 } from '../onnx/data-types.js';
import { copyModel, setWeight } from '../onnx/edit-weights.js';
import { encodeFloats, readFloat32 } from '../onnx/float-encoding.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { fillCut } from '../onnx/slice-handle.js';
import { floatsHandle } from '../onnx/tensor-handle.js';
import type { SecondLinear } from '../operators/experts.js';
import type { AnalysedModel } from '../runtime/analyse-model.js';
import { cutModel, isRepairable, type ModelChange, type ModuleCut } from './apply-change.js';
import { editGraph } from './graph-editor.js';
import { ensureLinearBias, linearBiasName, linearWeightName, type StoreTensor } from './repair-linear.js';
import { channelsOf } from './score-module.js';

export interface MaskOptions {
  readonly analysed: AnalysedModel;
  /** Stores the masked weights. */
  readonly store: StoreTensor;
  /** Changes every weight of the output projections to the next number, up or down at random. Absent: no weight is changed. */
  readonly nudge?: Random | undefined;
  /** Data type of the next number: the weight's own (default) or float16. */
  readonly neighbours?: 'own' | 'half' | undefined;
}

/**
 * Masked original of a pruned model: a copy of the dense model, of its size, with the pruned model's results. Changed
 * weights are written to the positions they were cut from; the output projections' columns of removed channels are zero.
 */
export async function maskModel(dense: OnnxModel, change: ModelChange, options: MaskOptions): Promise<OnnxModel> {
  const masked = copyModel(dense);
  for (const { module } of change.modules)
    if (isRepairable(module) && change.changed.has(linearBiasName(masked, module.output)))
      ensureLinearBias(masked, module.output);
  await restoreRepairs(dense, masked, change, options);
  for (const cut of change.modules) {
    if (isRepairable(cut.module)) await maskColumns(masked, cut, options);
    else {
      maskExperts(masked, cut, options);
      if (cut.neurons !== undefined) await maskNeurons(masked, { ...cut, neurons: cut.neurons }, options);
    }
  }
  for (const cut of nudgedNeighbours(change, options)) await maskColumns(masked, cut, options);
  return masked;
}

/** Unpruned modules whose weights are changed too: all when float16 is emulated, or when no module is pruned. */
function nudgedNeighbours({ modules }: ModelChange, { analysed, nudge, neighbours }: MaskOptions): ModuleCut[] {
  if (nudge === undefined || (neighbours !== 'half' && modules.length > 0)) return [];
  const cut = new Set(modules.map(({ module }) => module.index));
  return analysed.detected.layout.modules
    .filter((module) => !cut.has(module.index) && isRepairable(module))
    .map((module) => ({ module, keep: Int32Array.from({ length: module.unitCount }, (_, unit) => unit) }));
}

/** Writes changed weights into the masked original, at the positions of the dense weights that they were cut from. */
async function restoreRepairs(
  dense: OnnxModel,
  masked: OnnxModel,
  { modules, changed }: ModelChange,
  { analysed, store }: MaskOptions,
): Promise<void> {
  const narrowed = cutModel(dense, analysed, { modules: modules.filter(({ keep }) => keep.length > 0), changed });
  const [masking, narrowing] = [editGraph(masked), editGraph(narrowed)];
  const names = new Map([...dense.weights].map(([name, handle]) => [handle, name]));
  for (const [name, value] of changed) {
    const part = narrowed.weights.get(name);
    if (part?.cut === undefined) {
      setWeight(masked, name, value);
      continue;
    }
    const { whole, bytes } = await fillCut(part, await value.read());
    const filled = await store({ dataType: whole.dataType, dims: whole.dims }, bytes);
    const original = names.get(whole)!;
    if (name === original) setWeight(masked, name, filled);
    else {
      // Other nodes read the original. Readers of the cut copy are found by their results, which both graphs have.
      const results = new Set(narrowing.consumersOf(name).map(({ output }) => output[0]));
      const readers = masking.consumersOf(original).filter(({ output }) => results.has(output[0]));
      masking.rewire(readers, original, masking.addWeight(name, filled));
    }
  }
}

/** Largest relative distance of neighbouring numbers, by ONNX data type. */
const EPSILONS: Readonly<Record<number, number>> = {
  [FLOAT32]: 2 ** -23,
  [FLOAT16]: 2 ** -10,
  [BFLOAT16]: 2 ** -7,
};

/** Added to the router scores of removed experts, by ONNX data type: far below any other score. */
const MASKED_SCORES: Readonly<Record<number, number>> = { [FLOAT32]: -1e9, [FLOAT16]: -3e4 };

/** Lowers the router scores of removed experts far below all others, so that none is chosen. */
function maskExperts(model: OnnxModel, { module, keep }: ModuleCut, { analysed }: MaskOptions): void {
  const editor = editGraph(model);
  const remaining = new Set(keep);
  for (const { value, readers, dims } of findRouterScores(analysed.detected, module)) {
    const dataType = analysed.facts.first.get(value)!.dataType;
    const mask = Float64Array.from({ length: module.unitCount }, (_, expert) =>
      remaining.has(expert) ? 0 : (MASKED_SCORES[dataType] ?? MASKED_SCORES[1]!),
    );
    const name = editor.addWeight(`${value}/gone`, floatsHandle({ dataType, dims }, mask));
    const masked = editor.freshName(`${value}/masked`);
    const reading = readers.map((result) => editor.producerOf(result)!);
    editor.insertBefore(editor.firstOf(reading), { op: 'Add', inputs: [value, name], outputs: [masked] });
    editor.rewire(reading, value, masked);
  }
}

/** Zeroes the second linear layer's weights of removed neurons: floats, or codes of the zero point. */
async function maskNeurons(
  model: OnnxModel,
  { module, keep, neurons }: ModuleCut & Required<Pick<ModuleCut, 'neurons'>>,
  { analysed, store }: MaskOptions,
): Promise<void> {
  const { labels, nodes, second } = analysed.detected.traces[module.index]!.neurons!;
  const { index } = analysed.detected;
  const handle = model.weights.get(second.weight)!;
  const { axis, unitIds } = labels.get(second.weight)!;
  const bytes = (await handle.read()).slice();
  const zeroAt = await zeroCodes(model, second);
  const perExpert = handle.byteLength / handle.dims[0]!;
  const rowCount = handle.dims.slice(1, axis).reduce((product, dim) => product * dim, 1);
  const itemBytes = perExpert / rowCount / unitIds.length;
  const width = neurons!.length / keep.length;
  keep.forEach((expert, at) => {
    const remaining = new Set(neurons!.subarray(at * width, (at + 1) * width));
    for (let row = 0; row < rowCount; row += 1) {
      for (const position of unitIds.keys()) {
        if (remaining.has(unitIds[position]!)) continue;
        const start = expert * perExpert + (row * unitIds.length + position) * itemBytes;
        bytes.fill(zeroAt(expert * rowCount + row, position / unitIds.length), start, start + itemBytes);
      }
    }
  });
  const masked = await store({ dataType: handle.dataType, dims: handle.dims }, bytes);
  const editor = editGraph(model);
  const results = new Set(nodes.flatMap((at) => index.nodes[at]!.output));
  const readers = editor.consumersOf(second.weight).filter(({ output }) => output.some((value) => results.has(value)));
  editor.rewire(readers, second.weight, editor.addWeight(`${second.weight}/masked`, masked));
}

/** Byte of codes that dequantise to zero, by row of a second linear layer and position as a fraction of its length. */
async function zeroCodes({ weights }: OnnxModel, { weight, bits, zeroPoints, blocks = 1 }: SecondLinear) {
  if (bits === undefined) return () => 0;
  // A byte of equal codes.
  const repeat = (code: number) => (code * 255) / (2 ** bits - 1);
  if (zeroPoints === undefined) return () => repeat(2 ** (bits - 1));
  const handle = weights.get(zeroPoints)!;
  const packed = await handle.read();
  const [experts = 1, rows = 1] = weights.get(weight)!.dims;
  const perByte = 8 / bits;
  // With one scale per row, a byte has the zero points of several rows.
  const perRow = handle.dims.length === 2 ? 1 : (handle.byteLength * perByte) / (experts * rows);
  return (row: number, fraction: number) => {
    const at = row * perRow + Math.floor(fraction * blocks);
    return repeat((packed[Math.floor(at / perByte)]! >> (bits * (at % perByte))) & (2 ** bits - 1));
  };
}

/** Zeroes the columns of a module's output projection for removed channels. */
async function maskColumns(model: OnnxModel, { module, keep }: ModuleCut, { store, nudge, neighbours }: MaskOptions) {
  const linear = module.output;
  const shared = linearWeightName(model, linear);
  const handle = model.weights.get(shared)!;
  const values = await readFloat32(handle);
  const remains = new Uint8Array(linear.inputCount);
  for (const channel of channelsOf(module, keep)) remains[channel] = 1;
  const { dataType, dims } = handle;
  const [, width = 0] = dims;
  for (let row = 0, at = 0; at < values.length; row += 1) {
    for (let column = 0; column < width; column += 1, at += 1)
      if (remains[linear.inputAxis === 1 ? column : row] === 0) values[at] = 0;
  }
  const epsilon = neighbours === 'half' ? EPSILONS[FLOAT16]! : (EPSILONS[dataType] ?? 0);
  if (nudge !== undefined) {
    for (let at = 0; at < values.length; at += 1) values[at]! *= nudge() < 0.5 ? 1 - epsilon : 1 + epsilon;
  }
  const masked = await store({ dataType, dims }, encodeFloats(dataType, values));
  editGraph(model).replaceWeightFor(linear.result, shared, masked);
}
