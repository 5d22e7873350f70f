import { measureLoss } from '../../src/healing/differentiate.js';
import type { StartedTraining } from '../../src/healing/start-training.js';
import { getList, putList } from '../../src/healing/training-state.js';
import type { PlacedWeight } from '../../src/healing/weight-groups.js';
import { createRandom } from '../../src/linalg/random.js';

/** Weights of a group, and the length of the step along their gradient that the loss is measured at, on both sides. */
interface Slopes {
  readonly group: number;
  readonly weights: readonly PlacedWeight[];
  stepOf(weight: Float32Array): number;
}

/** Fails unless gradients that `differentiate` has stored are slopes of the loss over the first step's batches. */
export async function expectSlopes(training: StartedTraining, { group, weights, stepOf }: Slopes): Promise<void> {
  const { stores, gradients, steps } = training;
  const random = createRandom(1);
  for (const { name, offset, count } of weights) {
    const start = (await getList(stores.now.weights, group)).slice();
    const gradient = (await getList(gradients, group)).slice(offset, offset + count);
    // Mostly along the gradient, where the slope is not noise.
    const direction = gradient.map((value) => value * (0.5 + random()));
    const length = Math.hypot(...direction);
    const slope = direction.reduce((sum, value, i) => sum + (value / length) * gradient[i]!, 0);
    const lossAt = async (by: number) => {
      const moved = start.slice();
      direction.forEach((value, i) => {
        moved[offset + i]! += (by * value) / length;
      });
      await putList(stores.now.weights, group, moved);
      return measureLoss(training, steps[0]!, 'difference');
    };
    const step = stepOf(start.subarray(offset, offset + count));
    const found = ((await lossAt(step)) - (await lossAt(-step))) / (2 * step);
    await putList(stores.now.weights, group, start);
    expect({ name, error: Math.abs(found / slope - 1) < 0.02 ? 'small' : found / slope }).toEqual({
      name,
      error: 'small',
    });
  }
}

/** Weights of a group along which the stored gradient is nothing but rounding. */
export async function findFlat({ groups, gradients }: StartedTraining, group: number): Promise<PlacedWeight[]> {
  const values = (await getList(gradients, group)).slice();
  const normOf = ({ offset, count }: PlacedWeight) => Math.hypot(...values.subarray(offset, offset + count));
  const { weights } = groups.all[group]!;
  const largest = Math.max(...weights.map(normOf));
  return weights.filter((weight) => normOf(weight) < 1e-5 * largest);
}
