import { withoutFront } from '../../graph/join-embedding.js';
import { mergeDecoders } from '../../graph/merged-decoder.js';
import type { TensorHandle } from '../../onnx/onnx-model.js';
import { sliceHandle } from '../../onnx/slice-handle.js';
import type { BlockGrid } from '../../quantisation/block-codes.js';
import { codesBehind } from '../../quantisation/coded-handle.js';
import { findWeights, type QuantisableWeight } from '../../quantisation/find-weights.js';
import { hasSpelledLookups, spellLookups } from '../../quantisation/spell-lookups.js';
import type { StoredCodes } from '../../quantisation/store-codes.js';
import { type QuantisedWeight, writeBlocks } from '../../quantisation/write-blocks.js';
import { tidyModel } from '../../removal/tidy-model.js';
import type { UnderstoodModel } from '../../runtime/analyse-model.js';
import type { PruneJob } from '../job.js';
import { checkWhole } from './check-whole.js';
import { quantiseModel, roundModel } from './quantise-model.js';
import type { DtypeRequest, WrittenDtype } from './write-dtype.js';
import { writeWithTwin } from './write-with-twin.js';

/**
 * Writes what became of a model that was read from codes in its own form: rows that stay keep their exact codes, where no repair
 * touched a weight and no cut crosses its blocks; the others are rounded to blocks of the same form.
 * @param job Its model is the one to write, and `analysed` is of that model.
 * @param given The model as it was read.
 */
export async function writeCoded(
  job: PruneJob,
  given: UnderstoodModel,
  { change, rounding }: Pick<DtypeRequest, 'change' | 'rounding'>,
): Promise<WrittenDtype> {
  const { coded } = given.model;
  const isExact = ![...job.model.weights.values()].some((handle) => isTaken(handle));
  if (change.modules.length === 0 && change.changed.size === 0 && coded !== undefined && isExact)
    return {
      model: await mergeDecoders(withoutFront({ ...job.model, ...coded }), coded.twin?.model ?? coded),
      isSource: true,
      changed: new Map(),
      roundings: new Map(),
      wideCount: 0,
      timings: [],
      remarks: [],
    };
  const isSpelled = coded !== undefined && hasSpelledLookups(coded);
  const found = findWeights(job.model, job.analysed.tokenInput);
  const kept: QuantisedWeight[] = [];
  const rounded = [];
  for (const weight of found) {
    const exact = exactCodes(job.model.weights.get(weight.name)!, weight);
    if (exact !== undefined) kept.push({ ...weight, stored: exact });
    else {
      const grid = codesBehind(given.model.weights.get(weight.name))?.grid;
      if (grid !== undefined) rounded.push({ ...weight, grid: gridOfRows(grid, weight.inCount) });
    }
  }
  const made = rounding === 'calibrated' ? await quantiseModel(job, rounded) : await roundModel(job, rounded);
  const { quantised, cost, timings } = await checkWhole(job, { dense: given, leaving: rounded, quantised: made });
  const weights = [...kept, ...quantised.weights];
  const model = await writeWithTwin(job, { change, weights }, (graph) => {
    writeBlocks(graph.model, graph.weights, 0);
    if (isSpelled) spellLookups(graph.model, graph.analysed.facts.first);
    tidyModel(graph.model);
  });
  const costs =
    cost &&
    `; that adds ${cost.quantising.toPrecision(2)} nats a token to the ${cost.pruning.toPrecision(2)} of pruning`;
  const remark = `${rounded.length} of ${found.length} quantised weights were rounded anew, since they were repaired, cut inside a block or taken from a float model; the others keep their codes${costs ?? ''}`;
  return {
    model,
    changed: new Map(quantised.weights.map(({ name }) => [name, quantised.model.weights.get(name)!])),
    roundings: quantised.roundings,
    wideCount: 0,
    timings,
    remarks: [...(rounded.length > 0 ? [remark] : []), ...quantised.remarks],
  };
}

/** A table's blocks end where rows do: rows that are no whole blocks any more go to even levels in blocks of that size. */
const gridOfRows = (grid: BlockGrid, inCount: number): BlockGrid =>
  grid.levels === undefined || inCount % grid.blockSize === 0
    ? grid
    : { ...grid, levels: undefined, hasZeroPoints: true };

/** Whether a weight has a grid, but is not what codes on it stand for. */
function isTaken(handle: TensorHandle): boolean {
  const coded = codesBehind(handle);
  return coded !== undefined && coded.stored === undefined;
}

/** The codes behind a weight, cut as it was cut; undefined where it is not what they stand for, or lost inputs. */
function exactCodes(
  handle: TensorHandle,
  { inputAxis }: Pick<QuantisableWeight, 'inputAxis'>,
): StoredCodes | undefined {
  const own = codesBehind(handle);
  if (own?.stored !== undefined) return own.stored;
  if (handle.cut === undefined) return undefined;
  const { from, axis, keep } = handle.cut;
  const whole = exactCodes(from, { inputAxis });
  if (whole === undefined || axis === inputAxis) return undefined;
  const cut = (part: TensorHandle): TensorHandle => {
    const rows = { ...part, dims: [whole.outCount, part.byteLength / bytesOf(part) / whole.outCount] };
    return sliceHandle(rows, 0, keep);
  };
  const { codes, scales, zeroPoints, ...form } = whole;
  const blocks = Math.ceil(whole.inCount / whole.grid.blockSize);
  const sliced = cut(codes);
  return {
    ...form,
    outCount: keep.length,
    codes: { ...sliced, dims: [keep.length, blocks, sliced.byteLength / keep.length / blocks] },
    scales: cut(scales),
    ...(zeroPoints && { zeroPoints: cut(zeroPoints) }),
  };
}

/** Bytes of an element: codes are bytes, scales are two or four. */
const bytesOf = ({ byteLength, dims }: TensorHandle): number =>
  byteLength / dims.reduce((product, dim) => product * dim, 1);
