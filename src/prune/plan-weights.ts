import type { OnnxModel } from '../onnx/onnx-model.js';
import type { BlockGrid, WeightGrid } from '../quantisation/block-codes.js';
import type { Dtype } from '../quantisation/dtypes.js';
import { findWeights, type QuantisableWeight } from '../quantisation/find-weights.js';
import { codesBeforeCut, scalesBeforeCut } from '../quantisation/keep-blocks.js';
import { DYNAMIC_BITS } from '../quantisation/write-dynamic.js';
import type { AnalysedModel } from '../runtime/analyse-model.js';
import type { GriddedWeight } from './quantised-model.js';

/** Part of a model that a weight belongs to. */
export type WeightPart = 'ffn' | 'attention' | 'embedding' | 'head' | 'other';

/** A weight and its grid. */
export interface PlannedWeight extends Omit<GriddedWeight, 'grid'> {
  readonly part: WeightPart;
  /** Absent: the weight is not quantised. */
  readonly grid?: BlockGrid | undefined;
}

/** Settings of quantisation in blocks. */
export interface BlockSettings {
  readonly blockSize: number;
  readonly symmetric: boolean;
  /**
   * Grids of single weights by name, instead of the dtype's bits and `blockSize`. Scales are stored in float16 then, which saves
   * a tenth of the bytes at four bits; without grids they are in float32, as other quantisers write them.
   */
  readonly grids?: ReadonlyMap<string, WeightGrid> | undefined;
}

/** Block sizes for eight bits, best first: codes of eight bits are precise with large blocks. */
const WIDE_BLOCKS = [128, 64, 32, 16] as const;

/** Largest block of a table of four bits. */
const MAX_TABLE_BLOCK = 64;

/** Fewest scales that are stored in float16 and cast: for fewer, the `Cast` takes more bytes than it saves. */
const MIN_CAST = 256;

/** Chooses a grid for every weight that can be quantised; embeddings and LM heads get eight bits. */
export function planWeights(
  model: OnnxModel,
  { detected, tokenInput }: Pick<AnalysedModel, 'detected' | 'tokenInput'>,
  dtype: Dtype,
  settings: BlockSettings,
): PlannedWeight[] {
  return findWeights(model, tokenInput)
    .filter(({ name }) => model.embeddingPrefix === undefined || !name.startsWith(model.embeddingPrefix.prefix))
    .map((weight) => {
      const part = partOf(weight, detected);
      const grid = gridOf(weight, part, { dtype, ...settings });
      const { name, inputAxis } = weight;
      const before = codesBeforeCut(model.weights.get(name)!, inputAxis);
      // Weights that are already on the grid keep their codes.
      const readKnown = before && grid && (() => scalesBeforeCut(before, { grid, inputAxis }));
      return { ...weight, part, grid, ...(readKnown && { readKnown }) };
    });
}

/** The part of a model that a weight belongs to. */
export function partOf(
  { products, lookups }: QuantisableWeight,
  { layout, partition }: AnalysedModel['detected'],
): WeightPart {
  if (lookups.length > 0) return 'embedding';
  const stage = partition.stageOf.get(products[0]!.result) ?? 0;
  if (stage === partition.cuts.length) return 'head';
  // Experts keep their form.
  const kinds = new Set(
    layout.modules.flatMap(({ segment, kind }) => (segment === stage && kind !== 'experts' ? kind : [])),
  );
  const [kind] = kinds;
  return kinds.size === 1 ? kind! : 'other';
}

function gridOf(
  { name, outCount, inCount, lookups }: QuantisableWeight,
  part: WeightPart,
  { dtype: { linears, floats }, blockSize: ofAll, symmetric, grids }: BlockSettings & { readonly dtype: Dtype },
): BlockGrid | undefined {
  if (linears.kind === 'float') return undefined;
  if (linears.kind === 'dynamic')
    return { bits: DYNAMIC_BITS[linears.type], blockSize: inCount, hasZeroPoints: false, scaleType: 'float32' };
  const { codebook } = linears;
  const own = grids?.get(name);
  const blockSize = own?.blockSize ?? ofAll;
  const isCast = grids !== undefined && floats === 'float32' && (outCount * inCount) / blockSize >= MIN_CAST;
  const scales = isCast ? { scaleType: 'float16' as const, castsScales: true } : { scaleType: floats };
  if (part !== 'embedding' && part !== 'head') {
    const bits = own?.bits ?? linears.bits;
    if (codebook === undefined) return { bits, blockSize, hasZeroPoints: !symmetric && bits < 8, ...scales };
    const divisor = [blockSize, ...WIDE_BLOCKS].find((size) => size <= blockSize && inCount % size === 0);
    return divisor === undefined
      ? undefined
      : { bits, blockSize: divisor, hasZeroPoints: false, scaleType: 'float32', codebook };
  }
  // Two bits are too few for a table.
  if (own?.bits === 4 && codebook === undefined && inCount % blockSize === 0 && blockSize <= MAX_TABLE_BLOCK)
    return { bits: 4, blockSize, hasZeroPoints: false, ...scales };
  const wide = WIDE_BLOCKS.find((size) => inCount % size === 0);
  // Rows of a lookup table must be whole blocks.
  if (wide === undefined && lookups.length > 0) return undefined;
  return { bits: 8, blockSize: wide ?? blockSize, hasZeroPoints: false, ...scales };
}
