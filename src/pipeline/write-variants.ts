import type { GraphProto, NodeProto } from 'onnx-buf';
import { sum } from '../linalg/sum.js';
import { intAttribute } from '../onnx/attributes.js';
import { nameCacheAxes } from '../onnx/name-cache-axes.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import type { StorageChoice } from '../onnx/plan-storage.js';
import { measureModel, type SavedModel } from '../onnx/save-model.js';
import type { FolderLayout, ResolvedQuantisation } from '../options/quantisation.js';
import type { PruneJob, PruneOutcome } from '../prune/job.js';
import type { DtypeRequest, WrittenDtype } from '../prune/write-dtype.js';
import { DTYPES, type DtypeName } from '../quantisation/dtypes.js';
import type { ModelChange } from '../removal/apply-change.js';
import type { DtypeReport, PruneReport, RoundingReport } from '../report/report-schema.js';
import { type ModelFolder, modelPaths, totalBytes } from '../storage/model-folder.js';
import type { JobContext } from './job-context.js';
import { variantFile } from './name-variants.js';
import type { CertifyInput } from './stage-certify.js';
import type { Stages } from './stages.js';

/** A result in one dtype. */
export interface Variant {
  /** Absent: the form of the dense model. */
  readonly dtype?: DtypeName;
  /** Relative to the folder. */
  readonly file: string;
  readonly model: OnnxModel;
  /** See `WrittenDtype.isSource`. */
  readonly isSource?: boolean;
  readonly storage?: StorageChoice;
  readonly change: ModelChange;
  readonly certified?: Pick<CertifyInput, 'isHalf' | 'roundsActivations'>;
  readonly written?: WrittenDtype;
}

export interface VariantsRequest {
  readonly folder: ModelFolder;
  readonly job: PruneJob;
  readonly outcome: PruneOutcome;
  readonly quantisation: Omit<ResolvedQuantisation, 'rounding'> & Pick<DtypeRequest, 'rounding'>;
  readonly layout: FolderLayout;
  readonly dtypes: readonly DtypeName[];
}

/** Writes a result's variants, one for each dtype. */
export async function makeVariants(
  context: JobContext,
  stages: Pick<Stages, 'quantise'>,
  { folder, job, outcome, quantisation, layout, dtypes }: VariantsRequest,
): Promise<Variant[]> {
  if (dtypes.length === 0) {
    if (job.model.coded === undefined) return [];
    const written = await stages.quantise.run(context, { job, outcome, request: { ...quantisation, layout } });
    const { model } = written;
    const isSource = written.isSource === true && folder.changed === undefined;
    const change = { modules: outcome.modules, changed: new Map([...outcome.changed, ...written.changed]) };
    const certified = { roundsActivations: roundsActivations(job.model.coded) };
    return [{ file: folder.modelFile, model, isSource, change, certified, written }];
  }
  const variants: Variant[] = [];
  for (const dtype of dtypes) {
    const request = { ...quantisation, layout, dtype };
    const written = await stages.quantise.run(context, { job, outcome, request });
    const { floats } = DTYPES[dtype];
    const file = variantFile(folder, layout, dtype);
    // transformers.js derives the name of external data from the model's name; genai reads it from the model.
    if (layout === 'transformers.js') nameCacheAxes(written.model.proto.graph!);
    const isRenamed = layout === 'transformers.js' && job.model.storage?.kind === 'external';
    variants.push({
      dtype,
      file,
      model: written.model,
      ...(isRenamed && { storage: { external: { location: `${file.slice(file.lastIndexOf('/') + 1)}_data` } } }),
      change: { modules: outcome.modules, changed: new Map([...outcome.changed, ...written.changed]) },
      certified: { isHalf: floats === 'float16', roundsActivations: roundsActivations(written.model) },
      written,
    });
  }
  return variants;
}

/**
 * Whether products of a model round activations to eight bits. ONNX Runtime fuses products with `DequantizeLinear` into
 * `MatMulNBits` of accuracy level 4.
 */
function roundsActivations({ proto }: OnnxModel): boolean {
  const nodes = nodesIn(proto.graph!);
  const factorOf = ({ opType, input }: NodeProto) =>
    opType === 'Transpose' ? input[0] : PRODUCTS.has(opType) ? input[1] : undefined;
  const factors = new Set(nodes.map(factorOf));
  return nodes.some(
    (node) =>
      node.opType === 'MatMulInteger' ||
      (node.opType === 'DequantizeLinear' && factors.has(node.output[0])) ||
      intAttribute(node, 'accuracy_level', 0) === 4,
  );
}

/** All nodes, including subgraphs. */
const nodesIn = ({ node }: GraphProto): NodeProto[] =>
  node.flatMap((each) => [each, ...each.attribute.flatMap(({ g }) => (g ? nodesIn(g) : []))]);

const PRODUCTS: ReadonlySet<string> = new Set(['MatMul', 'Gemm']);

/** Dtype in reports of a model in the form of its source. */
const SOURCE_FORM = 'own';

/** Checks of a written variant. */
export interface VariantChecks {
  readonly certificate?: PruneReport['certificate'] | undefined;
  readonly quality?: PruneReport['quality'] | undefined;
}

/** Report of a written variant. */
export function reportVariant(
  { dtype, file, written }: Variant,
  { byteLength }: Pick<SavedModel, 'byteLength'>,
  { certificate, quality }: VariantChecks,
): DtypeReport[] {
  if (written?.parts === undefined) return [];
  const rounding = reportRounding(written);
  return [
    {
      dtype: dtype ?? SOURCE_FORM,
      file,
      bytes: byteLength,
      parts: written.parts,
      ...(written.cost && { divergence: written.cost }),
      ...(rounding && { rounding }),
      ...(written.healing && { healing: written.healing }),
      ...(certificate && { certificate }),
      ...(quality && { quality }),
    },
  ];
}

function reportRounding({ roundings }: WrittenDtype): RoundingReport | undefined {
  if (roundings.size === 0) return undefined;
  const found = [...roundings.values()];
  const nearest = found.filter(({ chosen }) => chosen.dampening === undefined).length;
  const ratios = found.map(({ chosen, nearest: plain }) => (plain.cost > 0 ? Math.log(chosen.cost / plain.cost) : 0));
  const mean = sum(ratios) / ratios.length;
  return {
    learned: found.length - nearest,
    nearest,
    costRatio: Math.exp(mean),
  };
}

/** File bytes of a variant. */
export async function countBytes(
  { model, isSource, file, storage }: Variant,
  source: ModelFolder,
): Promise<Pick<SavedModel, 'byteLength'>> {
  if (isSource) return { byteLength: await totalBytes(source.platform, modelPaths(source, model)) };
  return { byteLength: measureModel(model, file, { ...(storage && { layout: storage }) }) };
}
