import { copyModel } from '../onnx/edit-weights.js';
import { withoutEmbeddingPrefix } from '../onnx/join-embedding.js';
import { mergeDecoders } from '../onnx/merged-decoder.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { inputTypes, restoreInputTypes } from '../quantisation/convert-floats.js';
import { findWeights, type QuantisableWeight } from '../quantisation/find-weights.js';
import type { ModelChange } from '../removal/apply-change.js';
import { cutNoPastBranch } from '../removal/prune-no-past-branch.js';
import { reorderUnits, type UnitOrder } from '../removal/reorder-units.js';
import { type AnalysedModel, analyseModel } from '../runtime/analyse-model.js';
import type { PruneJob } from './job.js';

/** A graph of float weights, some of which are to be replaced by codes. */
export interface CodedGraph<Weight extends QuantisableWeight> {
  /** Edited in place. */
  readonly model: OnnxModel;
  readonly analysed: AnalysedModel;
  /** With their codes. */
  readonly weights: readonly Weight[];
}

/** Changes for both branches. */
interface BothChanges<Weight> {
  readonly change: ModelChange;
  /** New orders of units after the change. */
  readonly orders?: readonly UnitOrder[];
  readonly weights: readonly Weight[];
}

/**
 * Writes a model with the codes of its weights, and the branch without past of a merged decoder with the same codes.
 * @param change Changes of the model's units and weights; its branch without past is still dense.
 * @throws UnsupportedModelError see `cutNoPastBranch`.
 */
export async function writeBothBranches<Weight extends QuantisableWeight>(
  { model, analysed, engine, options }: Pick<PruneJob, 'model' | 'analysed' | 'engine' | 'options'>,
  { change, orders = [], weights }: BothChanges<Weight>,
  write: (graph: CodedGraph<Weight>) => void,
): Promise<OnnxModel> {
  const written = writeWithoutPrefix(model, (graph) => write({ model: graph, analysed, weights }));
  const { noPastBranch } = model;
  if (noPastBranch === undefined) return written;
  const cut = await cutNoPastBranch({ ...model, noPastBranch }, change, engine);
  const known = await analyseModel(cut, engine, options.signal);
  for (const order of orders) reorderUnits(cut, known.detected, order);
  const byName = new Map(weights.map((weight) => [weight.name, weight]));
  const shared = findWeights(cut, known.tokenInput).flatMap(({ name, products, lookups }) => {
    const weight = byName.get(name);
    return weight === undefined ? [] : [{ ...weight, products, lookups }];
  });
  const other = writeWithoutPrefix(cut, (graph) => write({ model: graph, analysed: known, weights: shared }));
  return mergeDecoders({ ...written, noPastBranch }, other);
}

/** Writes the decoder without a joined embedding model, and keeps the type of the embedding model's outputs. */
function writeWithoutPrefix(model: OnnxModel, write: (model: OnnxModel) => void): OnnxModel {
  const written = withoutEmbeddingPrefix(copyModel(model));
  const own = new Set(model.proto.graph!.input.map(({ name }) => name));
  const given = inputTypes(written.proto.graph!.input.filter(({ name }) => !own.has(name)));
  write(written);
  restoreInputTypes(written.proto.graph!, given);
  return written;
}
