import { NumericalError, OptionError } from '../errors.js';
import { WEIGHTING_VARIANTS, type WeightingName, type WeightingVariant } from './weighting-variants.js';

/** Softness of the weighting: in units of h-space, or relative to the mean distance between two different contexts. */
export type Temperature = { readonly relative: number } | { readonly absolute: number };

export interface WeightingInput {
  /** Centres in h-space: mean input of `down` over each context's tokens; `[contextCount, channelCount]` row-major. */
  readonly centers: Float64Array;
  /** Tokens of each context; a context without tokens is ignored. */
  readonly counts: ArrayLike<number>;
  /** Default `softmax`. */
  readonly variant?: WeightingName;
  /** Default `{ relative: 0.5 }`; the paper's absolute values are 9 (LLaMA-2-7B) and 7 (LLaMA-3.1-8B). */
  readonly temperature?: Temperature;
}

/**
 * Weighs the tokens of every context for every function group: `alpha[k][j] = softmax_j(-||c_k - c_j|| / temperature)`,
 * scaled so that the mean over tokens is 1 for each group. A group whose own context has no token gets equal weights.
 *
 * @returns `[contextCount, contextCount]` row-major: row = group scored, column = context of the token.
 * @throws OptionError for an unknown variant, a temperature that is not above 0 or shapes that disagree; NumericalError
 *   for a centre that is not finite.
 * @see FANG (arXiv 2512.23014), Eq. 6
 */
export function weightContexts(input: WeightingInput): Float64Array {
  const { centers, counts, variant = 'softmax', temperature = { relative: 0.5 } } = input;
  const contextCount = counts.length;
  checkInput(centers, counts, variant);
  const distances = distancesBetween(centers, contextCount);
  const softness = absoluteTemperature(temperature, distances, counts);
  const { weigh = () => 1 }: WeightingVariant = WEIGHTING_VARIANTS[variant];
  const weights = new Float64Array(contextCount * contextCount);
  for (let group = 0; group < contextCount; group++) {
    const row = weights.subarray(group * contextCount, (group + 1) * contextCount);
    if (counts[group] === 0) {
      row.fill(1);
      continue;
    }
    const scaled = scaledDistances(distances.subarray(group * contextCount, (group + 1) * contextCount), softness);
    const farthest = Math.max(...scaled.filter((_, context) => counts[context]! > 0));
    for (let context = 0; context < contextCount; context++) {
      const weighed = { distance: scaled[context]!, farthest, own: context === group };
      row[context] = counts[context] === 0 ? 0 : weigh(weighed);
    }
    scaleToMeanOne(row, counts);
  }
  return weights;
}

/**
 * Weights of single tokens for one group.
 *
 * @param contextWeights Result of `weightContexts`, `[contextCount, contextCount]`.
 * @returns One weight per token.
 */
export function weightTokens(
  contextWeights: Float64Array,
  group: number,
  contextOfToken: ArrayLike<number>,
): Float64Array {
  const contextCount = Math.round(Math.sqrt(contextWeights.length));
  return Float64Array.from(contextOfToken, (context) => contextWeights[group * contextCount + context]!);
}

/** Euclidean distances between all centres, `[contextCount, contextCount]`. */
function distancesBetween(centers: Float64Array, contextCount: number): Float64Array {
  const channelCount = centers.length / contextCount;
  const distances = new Float64Array(contextCount * contextCount);
  for (let one = 0; one < contextCount; one++) {
    for (let other = 0; other < one; other++) {
      let sum = 0;
      for (let j = 0; j < channelCount; j++)
        sum += (centers[one * channelCount + j]! - centers[other * channelCount + j]!) ** 2;
      distances[one * contextCount + other] = Math.sqrt(sum);
      distances[other * contextCount + one] = Math.sqrt(sum);
    }
  }
  return distances;
}

function absoluteTemperature(temperature: Temperature, distances: Float64Array, counts: ArrayLike<number>): number {
  const [kind, value] =
    'absolute' in temperature
      ? (['absolute', temperature.absolute] as const)
      : (['relative', temperature.relative] as const);
  if (!(Number.isFinite(value) && value > 0)) {
    throw new OptionError(
      `the ${kind} temperature is ${value}; expected a number above 0, such as ${kind === 'absolute' ? 9 : 0.5}`,
    );
  }
  if (kind === 'absolute') return value;
  let sum = 0;
  let pairs = 0;
  for (let one = 0; one < counts.length; one++) {
    for (let other = 0; other < counts.length; other++) {
      if (one === other || counts[one] === 0 || counts[other] === 0) continue;
      sum += distances[one * counts.length + other]!;
      pairs++;
    }
  }
  return pairs === 0 ? 0 : (value * sum) / pairs;
}

/** Distances in units of the temperature; all 0 where all centres coincide. */
function scaledDistances(distances: Float64Array, softness: number): Float64Array {
  return distances.map((distance) => (softness > 0 ? distance / softness : 0));
}

function scaleToMeanOne(row: Float64Array, counts: ArrayLike<number>): void {
  let tokens = 0;
  let sum = 0;
  for (let context = 0; context < row.length; context++) {
    tokens += counts[context]!;
    sum += counts[context]! * row[context]!;
  }
  for (let context = 0; context < row.length; context++) row[context]! *= tokens / sum;
}

function checkInput(centers: Float64Array, counts: ArrayLike<number>, variant: string): void {
  if (!Object.hasOwn(WEIGHTING_VARIANTS, variant)) {
    throw new OptionError(
      `unknown token weighting ${variant}; expected one of ${Object.keys(WEIGHTING_VARIANTS).join(', ')}`,
    );
  }
  if (counts.length === 0 || centers.length % counts.length !== 0) {
    throw new OptionError(`${centers.length} numbers are not the centres of ${counts.length} contexts`);
  }
  for (let context = 0; context < counts.length; context++) {
    if (!(counts[context]! >= 0)) throw new OptionError(`context ${context} has ${counts[context]} tokens`);
    const channelCount = centers.length / counts.length;
    const center = centers.subarray(context * channelCount, (context + 1) * channelCount);
    // The mean of no tokens is 0 / 0; such a centre is ignored.
    if (counts[context]! > 0 && !center.every(Number.isFinite)) {
      throw new NumericalError(`the centre of context ${context} is not finite: an activation overflowed`);
    }
  }
}
