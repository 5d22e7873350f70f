import type { PrefillSize } from '../graph/model-inputs.js';
import { OPEN, type TwinFacts, type ValueFact, type ValueFacts } from '../graph/value-facts.js';

/** A number as it depends on batch and window: `factor * batch^i * window^j` with i and j 0 or 1. */
interface Growth {
  readonly factor: number;
  readonly perBatch: boolean;
  readonly perToken: boolean;
}

export interface ScaleRequest {
  readonly facts: TwinFacts;
  /** Sizes of the two runs that the facts come from; their ratios must tell the four kinds of growth apart. */
  readonly sizes: readonly [PrefillSize, PrefillSize];
}

/**
 * Foretells dims and small integers of a run of another size from two probe runs, so that a graph can be frozen to a
 * batch and window that would not fit into memory whole. Dims that grow in another way are open, and contents are left out.
 */
export function scaleFacts({ facts, sizes }: ScaleRequest, target: PrefillSize): ValueFacts {
  const scaled = new Map<string, ValueFact>();
  const scale = (first: readonly number[], second: readonly number[]): (number | undefined)[] | undefined => {
    if (first.length !== second.length) return undefined;
    return first.map((value, at) => {
      const growth = findGrowth([value, second[at]!], sizes);
      return (
        growth &&
        growth.factor * (growth.perBatch ? target.batchSize : 1) * (growth.perToken ? target.sequenceLength : 1)
      );
    });
  };
  for (const [name, fact] of facts.first) {
    const twin = facts.second.get(name);
    const dims = twin && scale(fact.dims, twin.dims)?.map((dim) => dim ?? OPEN);
    if (twin === undefined || dims === undefined) continue;
    const ints = fact.ints && twin.ints && scale(fact.ints, twin.ints);
    scaled.set(name, { dims, dataType: fact.dataType, ...(ints?.every((value) => value !== undefined) && { ints }) });
  }
  return scaled;
}

function findGrowth(
  [first, second]: readonly [number, number],
  [one, two]: readonly [PrefillSize, PrefillSize],
): Growth | undefined {
  if (first === second) return { factor: first, perBatch: false, perToken: false };
  const kinds = [
    { perBatch: true, perToken: false },
    { perBatch: false, perToken: true },
    { perBatch: true, perToken: true },
  ];
  const size = (kind: (typeof kinds)[number], { batchSize, sequenceLength }: PrefillSize) =>
    (kind.perBatch ? batchSize : 1) * (kind.perToken ? sequenceLength : 1);
  const kind = kinds.find((candidate) => first * size(candidate, two) === second * size(candidate, one));
  return kind && { ...kind, factor: first / size(kind, one) };
}
