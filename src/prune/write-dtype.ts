import { type HealingReport, remarkHealing } from '../healing/heal-model.js';
import { copyModel, setWeight } from '../onnx/edit-weights.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import type { FolderLayout } from '../options/quantisation.js';
import { convertToHalf, convertToSingle } from '../quantisation/convert-floats.js';
import { DTYPES, type Dtype, type DtypeName, hasFewLevels } from '../quantisation/dtypes.js';
import { expandGathers } from '../quantisation/expand-gathers.js';
import { type QuantisedWeight, writeBlocks } from '../quantisation/write-blocks.js';
import { dynamicWeights, writeDynamic } from '../quantisation/write-dynamic.js';
import type { ModelChange } from '../removal/apply-change.js';
import type { UnitOrder } from '../removal/reorder-units.js';
import { tidyModel } from '../removal/tidy-model.js';
import type { UnderstoodModel } from '../runtime/analyse-model.js';
import { checkAgainstDense, type DenseCost } from './check-against-dense.js';
import { countParts, handlesOf } from './count-parts.js';
import { healRounded } from './heal-rounded.js';
import type { PruneJob, StageTiming } from './job.js';
import { type BlockSettings, planWeights, type WeightPart } from './plan-weights.js';
import { quantiseModel, roundModel } from './quantise-model.js';
import type { LinearRounding } from './quantised-model.js';
import { type CodedGraph, writeBothBranches } from './write-both-branches.js';

/** Settings for writing a model in a dtype. */
export interface DtypeRequest extends BlockSettings {
  readonly dtype: DtypeName;
  /** `none`: codes are zeros, if only sizes are needed. */
  readonly rounding: 'calibrated' | 'nearest' | 'none';
  /** Undefined: by the type of activations. */
  readonly accuracyLevel: number | undefined;
  /** Folder layout of the runtime. */
  readonly layout: FolderLayout | undefined;
  /** The original model, and its changes. */
  readonly dense: UnderstoodModel;
  readonly change: ModelChange;
}

/** A model in the form of a dtype. */
export interface WrittenDtype {
  /** The graph as it is saved. */
  readonly model: OnnxModel;
  /** Whether it is identical to the model's own files. Default false. */
  readonly isSource?: boolean;
  /** Dequantised weights, see `ModelChange.changed`. */
  readonly changed: ModelChange['changed'];
  /** Modules whose units have a new order. */
  readonly orders?: readonly UnitOrder[];
  /** Bytes of the weights of each part. Absent if `isSource`. */
  readonly parts?: Readonly<Record<WeightPart, number>>;
  /** Absent without windows to compare on, or if activations are quantised too. */
  readonly cost?: DenseCost;
  /** Result of training the rounded model; absent where it was not requested. */
  readonly healing?: HealingReport;
  /** Rounding of each measured linear layer, by the name of its weight. */
  readonly roundings: ReadonlyMap<string, LinearRounding>;
  readonly timings: readonly StageTiming[];
  readonly remarks: readonly string[];
}

/**
 * Writes a float model in a dtype; the given model is not changed.
 * @param given Has the model to write, pruned or not, and its analysis.
 * @throws UnsupportedModelError if needed gradients cannot be computed; NumericalError for weights that a dtype cannot represent.
 */
export async function writeDtype(given: PruneJob, { dtype: name, ...request }: DtypeRequest): Promise<WrittenDtype> {
  const job = { ...given, journal: given.journal?.within(name) };
  const dtype = DTYPES[name];
  const planned = planWeights(job.model, job.analysed, dtype, request);
  const gridded = planned.flatMap(({ grid, ...weight }) => (grid === undefined ? [] : [{ ...weight, grid }]));
  const { dense, rounding } = request;
  const found =
    rounding === 'calibrated' ? await quantiseModel(job, gridded) : await roundModel(job, gridded, rounding === 'none');
  const isCompared = dtype.linears.kind === 'blocks';
  const checked = isCompared
    ? await checkAgainstDense(job, { dense, planned: gridded, quantised: found })
    : { quantised: found, timings: found.timings };
  const isHealed = job.options.heal !== undefined && rounding !== 'none' && hasFewLevels(dtype);
  const healed = isHealed ? await healRounded(job, { dense, quantised: checked.quantised }) : undefined;
  const { quantised } = healed ?? checked;
  // Files end in other bytes of padding if their tensors are in another order, and sizes are counted before rounding.
  const byName = new Map(quantised.weights.map((weight) => [weight.name, weight]));
  const weights = gridded.map((weight) => byName.get(weight.name)!);
  const floats: ModelChange['changed'] = healed?.changed ?? new Map();
  const base = copyModel(job.model);
  for (const [weight, handle] of floats) setWeight(base, weight, handle);
  const change = { ...request.change, changed: new Map([...request.change.changed, ...floats]) };
  const model = await writeBothBranches({ ...job, model: base }, { change, weights }, (graph) =>
    writeForm(graph, dtype, request),
  );
  const handles = new Map(weights.map((weight) => [weight.name, handlesOf({ form: 'blocks', stored: weight.stored })]));
  const rounded = weights.map(({ name: weight }) => [weight, quantised.model.weights.get(weight)!] as const);
  return {
    model,
    changed: new Map([...floats, ...rounded]),
    parts: countParts(
      model,
      planned.map(({ name: weight, part }) => ({
        part,
        handles: handles.get(weight) ?? [model.weights.get(weight)],
      })),
    ),
    ...(checked.cost && { cost: checked.cost }),
    ...(healed && { healing: healed.report }),
    roundings: quantised.roundings,
    timings: [...checked.timings, ...(healed ? [healed.timing] : [])],
    remarks: [...quantised.remarks, ...(healed ? remarkHealing(healed.report) : isHealed ? [STOPPED_REMARK] : [])],
  };
}

const STOPPED_REMARK = 'the rounded model was not healed: there was no checkpoint of its training to stop at';

function writeForm(
  { model, analysed, weights }: CodedGraph<QuantisedWeight>,
  { linears, floats }: Dtype,
  { accuracyLevel, layout }: Pick<DtypeRequest, 'accuracyLevel' | 'layout'>,
): void {
  convertToSingle(model);
  // In half precision, ONNX Runtime 1.30 computes wrong products at level 4 where two branches of a merged decoder share weights.
  if (linears.kind === 'blocks') writeBlocks(model, weights, accuracyLevel ?? (floats === 'float16' ? 0 : 4));
  if (linears.kind === 'dynamic') writeDynamic(model, dynamicWeights(weights, linears.type), analysed.facts.first);
  tidyModel(model);
  if (floats === 'float16') convertToHalf(model, analysed.facts.first);
  if (linears.kind !== 'blocks' || layout === 'genai') return;
  expandGathers(model, analysed.facts.first);
  tidyModel(model);
}
