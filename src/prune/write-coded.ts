import { withoutEmbeddingPrefix } from '../onnx/join-embedding.js';
import { mergeDecoders } from '../onnx/merged-decoder.js';
import type { OnnxModel, TensorHandle } from '../onnx/onnx-model.js';
import { sliceHandle } from '../onnx/slice-handle.js';
import { exactCodes, gridForCodes, quantisedSource, type WeightCodes } from '../quantisation/coded-handle.js';
import { expandGathers, hasExpandedGathers } from '../quantisation/expand-gathers.js';
import { findWeights, type QuantisableWeight } from '../quantisation/find-weights.js';
import { codesBeforeCut, scalesBeforeCut } from '../quantisation/keep-blocks.js';
import { codeType } from '../quantisation/linear-codes.js';
import { type LinearType, linearOf } from '../quantisation/linear-of-blocks.js';
import { type QuantisedWeight, writeBlocks } from '../quantisation/write-blocks.js';
import { writeDynamic } from '../quantisation/write-dynamic.js';
import { writeConstants } from '../quantisation/write-linear.js';
import { inverseOrder, type MovedAxis } from '../removal/reorder-units.js';
import { tidyModel } from '../removal/tidy-model.js';
import type { UnderstoodModel } from '../runtime/analyse-model.js';
import { checkAgainstDense } from './check-against-dense.js';
import { countParts, handlesOf } from './count-parts.js';
import type { PruneJob } from './job.js';
import { orderBlocks } from './order-blocks.js';
import { partOf } from './plan-weights.js';
import { quantiseModel, roundModel } from './quantise-model.js';
import type { GriddedWeight } from './quantised-model.js';
import { type CodedGraph, writeBothBranches } from './write-both-branches.js';
import type { DtypeRequest, WrittenDtype } from './write-dtype.js';

/**
 * Writes a pruned model in the quantised form that it was read in. Weights keep their exact codes if no repair changed them and
 * removals follow their blocks; the others are rounded again in the same form.
 * @param pruned Has the model to write, and its analysis.
 * @param given The original model.
 */
export async function writeCoded(
  pruned: PruneJob,
  given: UnderstoodModel,
  { change, rounding }: Pick<DtypeRequest, 'change' | 'rounding'>,
): Promise<WrittenDtype> {
  const { coded } = given.model;
  const isExact = ![...pruned.model.weights.values()].some((handle) => isOriginal(handle));
  if (change.modules.length === 0 && change.changed.size === 0 && coded !== undefined && isExact)
    return {
      model: await mergeDecoders(
        withoutEmbeddingPrefix({ ...pruned.model, ...coded }),
        coded.noPastBranch?.model ?? coded,
      ),
      isSource: true,
      changed: new Map(),
      roundings: new Map(),
      timings: [],
      remarks: [],
    };
  const isExpanded = coded !== undefined && hasExpandedGathers(coded);
  const { model: ordered, cut, orders, moved } = orderBlocks(pruned, given, change);
  const job = { ...pruned, model: ordered };
  const found = findWeights(job.model, job.analysed.tokenInput);
  const unchanged: FormedWeight[] = [];
  const before = new Map<string, WeightCodes>();
  const rounded: GriddedWeight[] = [];
  for (const weight of found) {
    const { name, inputAxis, inCount } = weight;
    const exact = exactCodes(job.model.weights.get(name)!, inputAxis);
    if (exact !== undefined) unchanged.push({ ...weight, ...exact });
    const { codes } = quantisedSource(given.model.weights.get(name)) ?? {};
    if (exact !== undefined || codes === undefined) continue;
    before.set(name, codes);
    const grid = gridForCodes(codes, inputAxis, inCount);
    const source = cut.weights.get(name);
    const uncut = source && codesBeforeCut(source, inputAxis);
    rounded.push({ ...weight, grid, readKnown: async () => uncut && scalesBeforeCut(uncut, { grid, inputAxis }) });
  }
  const result =
    rounding === 'calibrated' ? await quantiseModel(job, rounded) : await roundModel(job, rounded, rounding === 'none');
  const { quantised, cost, timings } = await checkAgainstDense(job, {
    dense: given,
    planned: rounded,
    quantised: result,
  });
  const weights = [...unchanged, ...quantised.weights.map((weight) => formed(weight, before.get(weight.name)!))];
  const model = await writeBothBranches(job, { change, orders, weights }, (graph) => writeForms(graph, isExpanded));
  const handles = new Map(weights.map((weight) => [weight.name, handlesOf(weight)]));
  const written = found.map((weight) => ({
    part: partOf(weight, job.analysed.detected),
    handles: handles.get(weight.name) ?? [model.weights.get(weight.name)],
  }));
  const remark = `${rounded.length} of ${unchanged.length + rounded.length} quantised weights were rounded again, since they were repaired, cut inside a block or taken from a float model; the others keep their codes`;
  return {
    model,
    changed: new Map(
      quantised.weights.map(({ name }) => [name, inOldOrder(quantised.model.weights.get(name)!, moved.get(name))]),
    ),
    orders,
    parts: countParts(model, written),
    ...(cost && { cost }),
    roundings: quantised.roundings,
    timings,
    remarks: [
      ...(rounded.length > 0 ? [remark] : []),
      ...(coded && quantisesActivations(coded) ? [SCALES_REMARK] : []),
      ...quantised.remarks,
    ],
  };
}

const SCALES_REMARK =
  'activations are quantised with a scale per token, where the model had one per tensor (DynamicQuantizeLinear)';

const quantisesActivations = ({ proto }: OnnxModel): boolean =>
  proto.graph!.node.some(({ opType }) => opType === 'DynamicQuantizeLinear');

/** A weight with its codes, in the form of its file. */
type FormedWeight = QuantisableWeight & WeightCodes;

/** Rounded codes in the form that a weight's codes had before. */
function formed({ stored, ...weight }: QuantisedWeight, before: WeightCodes): FormedWeight {
  if (before.form === 'blocks') return { ...weight, ...before, stored };
  const { codes, scales, zeroPoints } = before.linear;
  const names = {
    codes: codes.name,
    scales: scales.name,
    zeroPoints: zeroPoints?.name ?? `${codes.name}_zero_point`,
  };
  const type = codeType(codes.handle).name as LinearType;
  return { ...weight, form: before.form, linear: linearOf(stored, { type, inputAxis: weight.inputAxis, names }) };
}

function writeForms({ model, analysed, weights }: CodedGraph<FormedWeight>, isExpanded: boolean): void {
  const blocks = weights.filter((weight) => weight.form === 'blocks');
  const linear = (form: WeightCodes['form']) =>
    weights.filter((weight) => weight.form !== 'blocks').filter((weight) => weight.form === form);
  if (blocks.length > 0) writeBlocks(model, blocks, 0);
  writeDynamic(model, linear('dynamic'), analysed.facts.first);
  const known = new Set(weights.map(({ name }) => name));
  // Quantised constants that are no linear layer, such as a position table or a bias.
  const others = [...model.weights].flatMap(([name, handle]) => {
    const exact = known.has(name) ? undefined : exactCodes(handle, 1);
    return exact?.form === 'constants' ? [{ name, linear: exact.linear }] : [];
  });
  writeConstants(model, [...linear('constants'), ...others]);
  if (isExpanded) expandGathers(model, analysed.facts.first);
  tidyModel(model);
}

const inOldOrder = (handle: TensorHandle, moved: MovedAxis | undefined): TensorHandle =>
  moved === undefined ? handle : sliceHandle(handle, moved.axis, inverseOrder(moved.from));

/** Whether a weight's floats were read from the original float model instead of its codes. */
const isOriginal = (handle: TensorHandle): boolean => quantisedSource(handle)?.isOriginal ?? false;
