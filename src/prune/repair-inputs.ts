import { type FfnExample, sourceOf } from '../activations/ffn-examples.js';
import { createInputMeter, type InputMeter, type MeasuredInputs } from '../activations/measure-inputs.js';
import type { PrunableModule } from '../architecture/layout.js';
import {
  createInputCurvature,
  type Gradients,
  type InputCurvature,
  lowestOnParabola,
  polakRibiere,
} from '../compensation/input-step.js';
import { NumericalError, UnsupportedModelError } from '../errors.js';
import { freeBytes } from '../free-bytes.js';
import { copyColumns, transposeMatrix } from '../linalg/matrix-block.js';
import { multiplySymmetric } from '../linalg/multiply-symmetric.js';
import { setWeight } from '../onnx/edit-weights.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import {
  findInputLinears,
  type InputLinear,
  inputWeights,
  readInputWeight,
  writeInputWeight,
} from '../removal/input-linears.js';
import { readLinearWeight, type StoreTensor, storeInMemory } from '../removal/repair-linear.js';
import { everyNth } from './every-nth.js';
import type { PruneContext } from './prune-context.js';
import { type RefinedModule, type Refinement, TICKS_PER_PASS } from './refinement.js';
import { startExamples } from './take-examples.js';

/**
 * Dampening of both factors of the curvature, as a fraction of their mean diagonals. Less fits the calibration tokens better and
 * other text worse (docs/research/auto.md).
 */
const DAMPENING = 1;

/** Tokens that are enough for the length of a step, a single number. */
const CHANGE_TOKENS = 4096;

/** Most lengths of a step that are tried, each at most half the last. */
const LENGTHS_TRIED = 3;

interface InputRepairRequest {
  readonly module: PrunableModule;
  /** Remaining neurons, ascending. The others are removed from the graph, and the output projection is repaired. */
  readonly keep: Int32Array;
  readonly examples: readonly FfnExample[];
}

/** Repairs the input projections of FFNs that lost neurons. */
export const inputRepair: Refinement = {
  name: 'input repair',
  // At most half the tokens, and only FFNs: once before the steps, and once after each.
  passes: ({ inputSteps, modules }) => (inputSteps > 0 && modules.has('ffn') ? 0.25 + 0.3 * inputSteps : 0),
  follow(context, model, modules) {
    const examples = startExamples(context, model, modules);
    return {
      reads: examples.request,
      async run({ module, keep }) {
        const own = examples.of(module);
        if (own.length === 0 || keep.length === 0 || keep.length === module.unitCount) return undefined;
        return context.timed('input repair', () => repairInputs(context, model, { module, keep, examples: own }));
      },
      dispose: examples.dispose,
    };
  },
};

/**
 * Changes a pruned FFN's input projections in place, to reduce the squared error of its output: conjugate Gauss-Newton steps,
 * each of the length at which the quadratic model is lowest, or shorter if the error did not fall.
 *
 * @returns undefined, with a remark, for an FFN that cannot be repaired this way.
 */
async function repairInputs(
  context: PruneContext,
  model: OnnxModel,
  { module, keep, examples }: InputRepairRequest,
): Promise<RefinedModule | undefined> {
  const { engine, analysed, options } = context.job;
  const linears = findInputLinears(model, { detected: analysed.detected, module, keep });
  const refuse = (reason: string): undefined => {
    context.remarks.push(`block ${module.block} ${module.kind}: its input projections were not repaired: ${reason}`);
    return undefined;
  };
  if (linears.length === 0) return refuse('they are not plain products with float weights');
  const { signal } = options;
  const { facts } = analysed;
  const before = inputWeights(model, linears);
  const sample = sampleOf(examples, module);
  const ticks = TICKS_PER_PASS * inputRepair.passes(options) * context.batches.length;
  // Each step runs the sample for its length, then all examples for the error.
  const exampleCount = examples.length * (1 + options.inputSteps) + sample.length * options.inputSteps;
  try {
    const meter = await createInputMeter({
      engine,
      model,
      facts,
      module,
      linears,
      source: sourceOf(model, module),
      examples,
      sample,
      signal,
      onExample: () => context.tick(`block ${module.block} ${module.kind} inputs`, ticks / exampleCount),
    });
    if (meter === undefined) return refuse('the FFN reads more than its input');
    return await descend(context, { model, module, linears, meter });
  } catch (error) {
    if (!(error instanceof UnsupportedModelError || error instanceof NumericalError)) throw error;
    for (const [name, weight] of before) setWeight(model, name, weight);
    return refuse(error.message);
  }
}

/** Examples are of equal size. */
function sampleOf(examples: readonly FfnExample[], { output }: PrunableModule): FfnExample[] {
  const tokenCount = (examples.length * examples[0]!.target.data.length) / output.outputCount;
  return everyNth(examples, Math.max(1, Math.floor(tokenCount / CHANGE_TOKENS)));
}

interface Descent {
  readonly model: OnnxModel;
  readonly module: PrunableModule;
  readonly linears: readonly InputLinear[];
  readonly meter: InputMeter;
}

async function descend(context: PruneContext, given: Descent): Promise<RefinedModule> {
  const { model, linears, meter } = given;
  const { options, store } = context.job;
  const { error, gradients, ...factors } = await meter.measureWithFactors();
  const output = await readOutput(context, given);
  const curvature = await createInputCurvature({
    ...output,
    ...factors,
    dampening: DAMPENING,
    multiply: context.multiply,
  });
  // For a wide FFN each of these takes half a gigabyte.
  freeBytes(output.outputGram, factors.inputGram, ...factors.rates);
  const weights = await Promise.all(linears.map((linear) => readInputWeight(model, linear)));
  let position: Position = { weights, error, gradients };
  let direction: Direction | undefined;
  for (let step = 1; step <= options.inputSteps; step += 1) {
    direction = await findDirection(position.gradients, curvature, direction);
    const change = await meter.measureChange(direction.steps, output.weight);
    if (!(direction.slope > 0 && change > 0)) break;
    const isLast = step === options.inputSteps;
    const next = await stepAlong(given, { position, direction, length: direction.slope / change, isLast });
    if (next === undefined) break;
    freeBytes(...position.weights);
    position = next;
  }
  const remaining = error > 0 ? position.error / error : 1;
  const changed = new Map(await write(given, position.weights, store));
  freeBytes(output.weight, ...position.weights, ...(direction ? arraysOf(direction) : []));
  curvature.dispose();
  return { changed, remaining };
}

/** Current weights, and the error and gradients there. */
interface Position extends MeasuredInputs {
  readonly weights: readonly Float32Array[];
}

interface Line {
  readonly position: Position;
  readonly direction: Direction;
  readonly length: number;
  /** Whether this is the last step, after which no gradient is needed. */
  readonly isLast: boolean;
}

/** Steps along a line, with shorter lengths until the error falls; undefined if it does not. */
async function stepAlong(given: Descent, { position, direction, length, isLast }: Line): Promise<Position | undefined> {
  const { steps, slope } = direction;
  const { meter, linears } = given;
  let tried = length;
  for (let attempt = 0; attempt < LENGTHS_TRIED && tried > 0; attempt += 1) {
    const weights = moveWeights(position.weights, linears, { steps, length: tried });
    await write(given, weights, storeInMemory);
    // Gradients for the next step come from the same run: the error mostly falls at the first length.
    const found = isLast ? { error: await meter.measureError(), gradients: [] } : await meter.measure();
    if (found.error < position.error) return { weights, ...found };
    freeBytes(...weights, ...found.gradients);
    tried = lowestOnParabola({ error: position.error, slope }, { error: found.error, length: tried });
  }
  return undefined;
}

function write({ model, linears }: Descent, weights: readonly Float32Array[], store: StoreTensor) {
  return Promise.all(linears.map((linear, at) => writeInputWeight(model, linear, { values: weights[at]!, store })));
}

/** Direction of a step, one part for each list of columns, and the initial rate of descent along it. */
interface Direction {
  readonly gradients: readonly Gradients[];
  readonly steps: readonly Float32Array[];
  readonly slope: number;
}

const arraysOf = ({ gradients, steps }: Direction): Float32Array[] => [
  ...steps,
  ...gradients.flatMap(({ gradient, preconditioned }) => [gradient, preconditioned]),
];

/** Computes a direction that is conjugate to the last one. @param last Its arrays are freed. */
async function findDirection(
  found: readonly Float32Array[],
  curvature: InputCurvature,
  last: Direction | undefined,
): Promise<Direction> {
  const gradients: Gradients[] = [];
  for (const [linear, gradient] of found.entries())
    gradients.push({ gradient, preconditioned: await curvature.precondition(gradient, linear) });
  const beta = last === undefined ? 0 : polakRibiere(gradients, last.gradients);
  const steps = gradients.map(({ preconditioned }, k) => {
    const before = last?.steps[k];
    if (before === undefined) return preconditioned;
    const step = preconditioned.slice();
    for (let at = 0; at < step.length; at += 1) step[at]! += beta * before[at]!;
    return step;
  });
  if (last !== undefined) freeBytes(...arraysOf(last));
  let slope = 0;
  for (const [k, { gradient }] of gradients.entries()) {
    const step = steps[k]!;
    for (let at = 0; at < gradient.length; at += 1) slope += gradient[at]! * step[at]!;
  }
  return { gradients, steps, slope };
}

/** The output projection's weight, `[neurons, out]`, and the inner products of its columns. */
async function readOutput(context: PruneContext, { model, module, linears }: Descent) {
  const read = await readLinearWeight(model, module.output);
  const [outputCount = 0, neuronCount = 0] = read.shape;
  const neurons = Array.from({ length: neuronCount }, (_, neuron) => neuron);
  const picked = copyColumns(read, neurons, new Float32Array(outputCount * neuronCount));
  const weight = transposeMatrix(picked, outputCount, neuronCount);
  freeBytes(picked);
  const { weight: name, outputAxis } = linears[0]!;
  const inputCount = model.weights.get(name)!.dims[1 - outputAxis]!;
  const outputGram = await multiplySymmetric(weight, {
    size: neuronCount,
    inner: outputCount,
    multiply: context.multiply,
  });
  return { neuronCount, inputCount, weight, outputGram };
}

/** Subtracts `length` times the steps from the weights; there is one step for each list of columns, linear layer by linear layer. */
function moveWeights(
  weights: readonly Float32Array[],
  linears: readonly InputLinear[],
  { steps, length }: { readonly steps: readonly Float32Array[]; readonly length: number },
): Float32Array[] {
  let next = 0;
  return linears.map(({ columns }, linear) => {
    const values = weights[linear]!.slice();
    const inputCount = steps[next]!.length / columns[0]!.length;
    const width = values.length / inputCount;
    for (const list of columns) {
      const step = steps[next]!;
      next += 1;
      for (let row = 0; row < inputCount; row += 1) {
        for (let at = 0; at < list.length; at += 1)
          values[row * width + list[at]!]! -= length * step[row * list.length + at]!;
      }
    }
    return values;
  });
}
