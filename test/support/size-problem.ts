import { createRandom } from '../../src/linalg/random.js';
import type { Bits, Mixture, SizeProblem } from '../../src/prune/mixtures.js';

/** A grid with blocks of 32. */
export const gridOf = (bits: Bits) => ({ bits, blockSize: 32 });

/** Bits of every linear layer of a mixture. */
export const bitsOf = ({ grids }: Pick<Mixture, 'grids'>): Readonly<Record<string, Bits>> =>
  Object.fromEntries([...grids].map(([name, { bits }]) => [name, bits]));

/** Random linear layers of 8, 4 and 2 bits, each of a module whose steps cost more and more. */
export function sizeProblem(seed: number, { mapCount: weightCount = 12, stepCount = 8 } = {}): SizeProblem {
  const random = createRandom(seed);
  const weights = Array.from({ length: weightCount }, (_, at) => {
    const cost = 0.001 + 0.01 * random();
    const weight = 100 + Math.round(100 * random());
    return {
      name: `map ${at}`,
      isTable: false,
      module: at % 2,
      forms: ([8, 4, 2] as const).map((bits) => ({
        grid: gridOf(bits),
        bytes: weight * bits,
        cost: cost * 4 ** (8 - bits) * 0.01,
      })),
    };
  });
  const modules = [0, 1].map((index) => ({
    index,
    otherBytes: 0,
    block: index,
    kind: 'ffn' as const,
    parameterCount: 1000,
    unitCount: stepCount,
    stepCount,
    parametersPerStep: 1000 / stepCount,
    minimumKept: 1,
    multiple: 1,
    order: {
      scores: new Float64Array(stepCount),
      costs: Float64Array.from(
        { length: stepCount },
        (_, step) => ((0.16 + 0.4 * random()) * (step + 1) * 8) / stepCount ** 2,
      ).sort(),
    },
  }));
  return { weights, modules, fixedBytes: 500, evenHeads: true };
}
