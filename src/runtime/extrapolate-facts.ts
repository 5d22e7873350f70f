import type { PrefillSize } from '../onnx/model-inputs.js';
import { OPEN, type TwoRunFacts, type ValueFact, type ValueFacts } from '../onnx/value-facts.js';

/** A size as a function of batch and window. */
type Growth = (size: PrefillSize) => number;

export interface ExtrapolationRequest {
  readonly facts: TwoRunFacts;
  /** Sizes of the two runs that the facts come from; they must differ under every kind of growth. */
  readonly sizes: readonly [PrefillSize, PrefillSize];
}

/**
 * Extrapolates dims and small integers of a run of another size from two probe runs, for batches and windows that are too
 * large to probe. Dims that grow in another way, or in steps, are open, and contents are omitted.
 */
export function extrapolateFacts({ facts, sizes }: ExtrapolationRequest, target: PrefillSize): ValueFacts {
  const scaled = new Map<string, ValueFact>();
  const scale = (first: readonly number[], second: readonly number[]): (number | undefined)[] | undefined => {
    if (first.length !== second.length) return undefined;
    return first.map((value, at) => findGrowth([value, second[at]!], sizes)?.(target));
  };
  for (const [name, fact] of facts.first) {
    const other = facts.second.get(name);
    if (facts.stepped?.has(name)) {
      scaled.set(name, { dims: fact.dims.map(() => OPEN), dataType: fact.dataType });
      continue;
    }
    const dims = other && scale(fact.dims, other.dims)?.map((dim) => dim ?? OPEN);
    if (other === undefined || dims === undefined) continue;
    const ints = fact.ints && other.ints && scale(fact.ints, other.ints);
    scaled.set(name, { dims, dataType: fact.dataType, ...(ints?.every((value) => value !== undefined) && { ints }) });
  }
  return scaled;
}

/** Quantities that sizes are multiples of. */
const MEASURES: readonly Growth[] = [
  () => 1,
  ({ batchSize }) => batchSize,
  ({ sequenceLength }) => sequenceLength,
  ({ batchSize, sequenceLength }) => batchSize * sequenceLength,
];

/** A multiple of batch, window or both, or the window and some tokens more or less. */
function findGrowth(
  [first, second]: readonly [number, number],
  [one, two]: readonly [PrefillSize, PrefillSize],
): Growth | undefined {
  const measure = MEASURES.find((measured) => first * measured(two) === second * measured(one));
  if (measure !== undefined) return (size) => (first / measure(one)) * measure(size);
  const more = first - one.sequenceLength;
  return second - two.sequenceLength === more ? ({ sequenceLength }) => sequenceLength + more : undefined;
}
