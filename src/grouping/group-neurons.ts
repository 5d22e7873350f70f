import { NumericalError, OptionError } from '../errors.js';
import { findNonFinite } from '../linalg/matrix-block.js';
import { drawPermutation, type Random } from '../linalg/random.js';
import { assignWithCapacities } from './assign-with-capacities.js';

/** Neurons of one block by function; every neuron is in exactly one list, lists ascending. */
export interface NeuronGroups {
  /** Neurons that serve many contexts and are never pruned; empty without a shared group. */
  readonly shared: Int32Array;
  /** One function group per context, possibly empty. */
  readonly functions: readonly Int32Array[];
}

export interface GroupingInput {
  /** `S`, `[contextCount, neuronCount]` row-major: importance of each neuron to each context (Eq. 5), at least 0. */
  readonly affinity: Float64Array;
  readonly contextCount: number;
  /** Default `greedy`. */
  readonly assignment?: AssignmentName;
  /** Chooses a shared group first. Default true. */
  readonly sharedGroup?: boolean;
  /** For `random` only. */
  readonly random?: Random;
}

interface Assignment {
  readonly affinity: Float64Array;
  readonly neuronCount: number;
  /** Neurons to assign, ascending. */
  readonly free: Int32Array;
  /** Size of each function group; they add up to `free.length`. */
  readonly sizes: readonly number[];
  readonly random: Random | undefined;
}

/** Assignments of neurons to function groups of equal size; each returns the context of every free neuron. */
export const ASSIGNMENTS = {
  /** The largest remaining affinity of any context with room decides; of equal ones the lower context, then neuron. */
  greedy: assignGreedily,
  /** Maximises the sum of affinities exactly. */
  exact: assignExactly,
  /** At random: the ablation. */
  random: assignAtRandom,
  /** All in one function group: the ablation with only a shared group. */
  together: ({ free }) => new Int32Array(free.length),
} as const satisfies Record<string, (assignment: Assignment) => Int32Array>;

export type AssignmentName = keyof typeof ASSIGNMENTS;

/**
 * Splits a block's neurons into a shared group and one function group per context, all of size F / (K + 1) (F / K
 * without a shared group). Where that does not divide, the first function groups have one neuron more.
 *
 * @throws OptionError for a bad shape, fewer neurons than groups, or a missing generator; NumericalError for an affinity
 *   that is not finite.
 * @see FANG (arXiv 2512.23014), section 3.2
 */
export function groupNeurons(input: GroupingInput): NeuronGroups {
  const { affinity, contextCount, assignment = 'greedy', sharedGroup = true, random } = input;
  checkInput(input);
  const neuronCount = affinity.length / contextCount;
  const sharedSize = sharedGroup ? Math.floor(neuronCount / (contextCount + 1)) : 0;
  const shared = chooseShared(affinity, { contextCount, neuronCount, size: sharedSize });
  const free = Int32Array.from({ length: neuronCount }, (_, neuron) => neuron).filter((neuron) => !shared.has(neuron));
  const sizes = equalSizes(free.length, contextCount);
  const contextOf = ASSIGNMENTS[assignment]({ affinity, neuronCount, free, sizes, random });
  return {
    shared: Int32Array.from(shared).sort(),
    functions: sizes.map((_, context) => free.filter((_neuron, position) => contextOf[position] === context)),
  };
}

function equalSizes(total: number, count: number): number[] {
  return Array.from({ length: count }, (_, index) => Math.floor(total / count) + (index < total % count ? 1 : 0));
}

/**
 * Repeats until the group is full: each context votes for its `size` strongest unshared neurons, and those with the most
 * votes are added, ties by summed affinity.
 */
function chooseShared(
  affinity: Float64Array,
  { contextCount, neuronCount, size }: { contextCount: number; neuronCount: number; size: number },
): Set<number> {
  const sums = new Float64Array(neuronCount);
  affinity.forEach((value, at) => {
    sums[at % neuronCount]! += value;
  });
  const rankings = Array.from({ length: contextCount }, (_, context) => {
    const row = affinity.subarray(context * neuronCount, (context + 1) * neuronCount);
    return Array.from(row.keys()).sort((a, b) => row[b]! - row[a]! || a - b);
  });
  const shared = new Set<number>();
  while (shared.size < size) {
    const votes = new Int32Array(neuronCount);
    for (const ranking of rankings) {
      for (const neuron of ranking.filter((candidate) => !shared.has(candidate)).slice(0, size)) votes[neuron]!++;
    }
    const most = Math.max(...votes);
    const candidates = Array.from(votes.keys()).filter((neuron) => votes[neuron] === most);
    candidates.sort((a, b) => sums[b]! - sums[a]! || a - b);
    for (const neuron of candidates.slice(0, size - shared.size)) shared.add(neuron);
  }
  return shared;
}

function assignGreedily({ affinity, neuronCount, free, sizes }: Assignment): Int32Array {
  const room = [...sizes];
  const contextOf = new Int32Array(free.length).fill(-1);
  const pairs = Array.from({ length: sizes.length * free.length }, (_, pair) => pair);
  const affinityOf = (pair: number) =>
    affinity[Math.floor(pair / free.length) * neuronCount + free[pair % free.length]!]!;
  const values = Float64Array.from(pairs, affinityOf);
  pairs.sort((a, b) => values[b]! - values[a]! || a - b);
  for (const pair of pairs) {
    const context = Math.floor(pair / free.length);
    const position = pair % free.length;
    if (contextOf[position] !== -1 || room[context] === 0) continue;
    contextOf[position] = context;
    room[context]!--;
  }
  return contextOf;
}

function assignExactly({ affinity, neuronCount, free, sizes }: Assignment): Int32Array {
  const contextCount = sizes.length;
  const costs = new Float64Array(free.length * contextCount);
  free.forEach((neuron, position) => {
    for (let context = 0; context < contextCount; context++) {
      costs[position * contextCount + context] = -affinity[context * neuronCount + neuron]!;
    }
  });
  return assignWithCapacities(costs, contextCount, { minimum: sizes, maximum: sizes });
}

function assignAtRandom({ free, sizes, random }: Assignment): Int32Array {
  if (random === undefined) throw new OptionError('a random grouping needs a seeded generator: pass `random`');
  const order = drawPermutation(random, free.length);
  const contextOf = new Int32Array(free.length);
  let at = 0;
  sizes.forEach((size, context) => {
    for (let i = 0; i < size; i++) contextOf[order[at++]!] = context;
  });
  return contextOf;
}

function checkInput({ affinity, contextCount, assignment = 'greedy' }: GroupingInput): void {
  if (!Object.hasOwn(ASSIGNMENTS, assignment)) {
    throw new OptionError(
      `unknown assignment ${String(assignment)}; expected one of ${Object.keys(ASSIGNMENTS).join(', ')}`,
    );
  }
  const neuronCount = affinity.length / contextCount;
  if (!Number.isInteger(contextCount) || contextCount < 1 || !Number.isInteger(neuronCount)) {
    throw new OptionError(`an affinity of ${affinity.length} numbers does not split into ${contextCount} contexts`);
  }
  if (neuronCount < contextCount + 1) {
    throw new OptionError(`${neuronCount} neurons cannot make ${contextCount + 1} groups: use fewer contexts`);
  }
  const invalid = findNonFinite(affinity);
  if (invalid >= 0) {
    throw new NumericalError(
      `the affinity of context ${Math.floor(invalid / neuronCount)} to neuron ${invalid % neuronCount} is ${affinity[invalid]}`,
    );
  }
}
