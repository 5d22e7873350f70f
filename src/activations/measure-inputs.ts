import { extractStage } from '../onnx/extract-stage.js';
import type { GraphIndex } from '../onnx/graph-index.js';
import type { ValueFact, ValueFacts } from '../onnx/value-facts.js';
import { indexRunGraph } from '../runtime/block-runner.js';
import { compileStage, joinExtensions, type LoadedSlice, type StageExtension } from '../runtime/compile-stage.js';
import type { Tensor, Tensors } from '../runtime/engine.js';
import { factOf, factOfWeight } from '../runtime/probe-values.js';
import { releaseTensors } from '../runtime/tensor-memory.js';
import type { FfnExample } from './ffn-examples.js';
import { createGramSum } from './gram-sum.js';
import {
  type ColumnList,
  columnNodes,
  cotangentNodes,
  ERROR,
  errorNodes,
  type FfnShape,
  listsOf,
  node,
  type PrunedFfn,
  ROWS,
  rateNodes,
  rowNodes,
  TARGET,
} from './input-nodes.js';
import { createProductSum } from './product-sum.js';

export interface MeasuredInputs {
  /** Mean over tokens of half the squared distance from the targets. */
  readonly error: number;
  /**
   * Mean over tokens of `x a'`, x the FFN's input and a the error's gradient at a layer's output: `[in, neurons]`
   * row-major, one for each list of columns, layer by layer.
   */
  readonly gradients: readonly Float32Array[];
}

/** Factors of the curvature of the error. */
export interface InputFactors {
  /** Mean over tokens of `x x'`, `[in, in]`. */
  readonly inputGram: Float64Array;
  /**
   * Mean over tokens of `d d'`, d the derivative of each neuron with respect to a layer's output: `[neurons, neurons]`,
   * one for each list of columns.
   */
  readonly rates: readonly Float64Array[];
}

/** Measures a pruned FFN on its examples with the current weights. */
export interface InputMeter {
  /** Error, gradients and the factors of the curvature, in one run. */
  measureWithFactors(): Promise<MeasuredInputs & InputFactors>;
  /** Error and gradients. */
  measure(): Promise<MeasuredInputs>;
  /** Error without gradients. */
  measureError(): Promise<number>;
  /**
   * Mean over the sample's tokens of the squared change of the output along a step, to first order.
   * @param steps `[in, neurons]` row-major, one for each list of columns. @param outputWeight `[neurons, out]` row-major.
   */
  measureChange(steps: readonly Float32Array[], outputWeight: Float32Array): Promise<number>;
}

/**
 * Prepares to measure how an FFN's error depends on its input projections.
 * @returns undefined where the FFN reads other values than its input.
 * @throws UnsupportedModelError when an operator between the linear layers and the output has no gradient rule.
 */
export async function createInputMeter(ffn: PrunedFfn): Promise<InputMeter | undefined> {
  const given = { ...ffn, index: indexRunGraph(ffn.model) };
  const facts = await probe(given);
  if (facts === undefined) return undefined;
  const neuronCount = given.linears[0]!.columns[0]!.length;
  const inputCount = facts.get(given.module.input)!.dims.at(-1)!;
  const shapeOf = ({ examples }: PrunedFfn): FfnShape => ({
    facts,
    inputCount,
    neuronCount,
    tokenCount: examples.reduce((sum, { source }) => sum + source.data.length / inputCount, 0),
  });
  const shape = shapeOf(given);
  const sample = { ...given, examples: given.sample };
  return {
    async measureWithFactors() {
      const [inputs, factors] = [sumInputs(given, shape), sumFactors(given, shape)];
      await runExamples(given, shape, [inputs, factors]);
      return { ...inputs.finish(), ...factors.finish() };
    },
    async measure() {
      const inputs = sumInputs(given, shape);
      await runExamples(given, shape, [inputs]);
      return inputs.finish();
    },
    async measureError() {
      const error = sumError(given, shape);
      await runExamples(given, shape, [error]);
      return error.finish();
    },
    measureChange: (steps, outputWeight) => measureChange(sample, shapeOf(sample), { steps, outputWeight }),
  };
}

/** An FFN in an indexed graph; only its weights change between runs. */
interface IndexedFfn extends PrunedFfn {
  readonly index: GraphIndex;
}

/** A quantity that is summed over the examples. */
interface ExampleSum {
  /** Nodes after the FFN; they may read `ROWS`. */
  readonly extension: (slice: LoadedSlice) => StageExtension;
  feeds(example: FfnExample): Tensors;
  add(values: Tensors): void;
}

function sumError(given: PrunedFfn, { tokenCount }: FfnShape): ExampleSum & { finish(): number } {
  let error = 0;
  return {
    extension: () => errorNodes(given),
    feeds: ({ target }) => ({ [TARGET]: target }),
    add(values) {
      error += scalar(values[ERROR]!);
    },
    finish: () => error / tokenCount / 2,
  };
}

function sumInputs(given: PrunedFfn, shape: FfnShape): ExampleSum & { finish(): MeasuredInputs } {
  const lists = listsOf(given);
  const error = sumError(given, shape);
  const sums = lists.map(({ name }) => createProductSum(`${name}/gradient`, ROWS, `${name}/cotangent`));
  return {
    extension(slice) {
      const cotangents = cotangentNodes(given, shape, slice);
      const products = lists.flatMap((list, at) => [
        columnNodes(list, shape, { value: cotangents.of(list.result), to: `${list.name}/cotangent` }),
        sums[at]!.extension,
      ]);
      return joinExtensions([error.extension(slice), cotangents.extension, ...products]);
    },
    feeds: (example) => Object.assign({}, error.feeds(example), ...sums.map((sum) => sum.feeds())),
    add(values) {
      error.add(values);
      for (const sum of sums) sum.add(values);
    },
    finish: () => ({ error: error.finish(), gradients: sums.map((sum) => sum.finish(shape.tokenCount)) }),
  };
}

function sumFactors(given: PrunedFfn, shape: FfnShape): ExampleSum & { finish(): InputFactors } {
  const { inputCount, neuronCount, tokenCount } = shape;
  const lists = listsOf(given);
  const gramOf = (name: string, rows: string, size: number) => {
    const transposed = `${name}/transposed`;
    const gram = createGramSum({ name: `${name}/gram`, left: transposed, right: transposed, size });
    return { ...gram, nodes: [node('Transpose', [rows], transposed, { perm: [1, 0] }), ...gram.nodes] };
  };
  const rateName = ({ name }: ColumnList) => `${name}/rate`;
  const rates = lists.map((list) => gramOf(list.name, rateName(list), neuronCount));
  const input = gramOf('inputs/input', ROWS, inputCount);
  const grams = [...rates, input];
  return {
    extension(slice) {
      const found = rateNodes(given, shape, slice);
      const picked = lists.map((list) =>
        columnNodes(list, shape, { value: found.of(list.result), to: rateName(list) }),
      );
      return joinExtensions([found.extension, ...picked, ...grams]);
    },
    feeds: () => Object.assign({}, ...grams.map((gram) => gram.feeds())),
    add(values) {
      for (const gram of grams) gram.add(values);
    },
    finish: () => ({ inputGram: input.finish(tokenCount), rates: rates.map((gram) => gram.finish(tokenCount)) }),
  };
}

async function measureChange(
  given: IndexedFfn,
  shape: FfnShape,
  { steps, outputWeight }: { readonly steps: readonly Float32Array[]; readonly outputWeight: Float32Array },
): Promise<number> {
  const { inputCount, neuronCount, tokenCount } = shape;
  const { module } = given;
  const lists = listsOf(given);
  const extension = (slice: LoadedSlice): StageExtension => {
    const rates = rateNodes(given, shape, slice);
    const parts = lists.map((list) => {
      const { name, result } = list;
      const picked = columnNodes(list, shape, { value: rates.of(result), to: `${name}/rate` });
      const nodes = [
        ...picked.nodes,
        node('MatMul', [ROWS, `${name}/step`], `${name}/given`),
        node('Mul', [`${name}/given`, `${name}/rate`], `${name}/change`),
      ];
      return { ...picked, nodes, inputs: [{ name: `${name}/step`, type: 'float32' as const }] };
    });
    const total: StageExtension = {
      nodes: [
        node(
          'Sum',
          lists.map(({ name }) => `${name}/change`),
          'inputs/neurons',
        ),
        node('MatMul', ['inputs/neurons', 'inputs/output'], 'inputs/moved'),
        node('Mul', ['inputs/moved', 'inputs/moved'], 'inputs/moved_squares'),
        node('ReduceSum', ['inputs/moved_squares'], 'inputs/change', { keepdims: 0 }),
      ],
      initializers: [],
      inputs: [{ name: 'inputs/output', type: 'float32' }],
      outputs: ['inputs/change'],
    };
    return joinExtensions([rates.extension, ...parts, total]);
  };
  const feeds: Record<string, Tensor> = {
    'inputs/output': { type: 'float32', dims: [neuronCount, module.output.outputCount], data: outputWeight },
  };
  lists.forEach(({ name }, at) => {
    feeds[`${name}/step`] = {
      type: 'float32',
      dims: [inputCount, neuronCount],
      data: steps[at]!,
    };
  });
  let sum = 0;
  const add = (values: Tensors) => {
    sum += scalar(values['inputs/change']!);
  };
  await runExamples(given, shape, [{ extension, feeds: () => feeds, add }]);
  return sum / tokenCount;
}

/** Runs the FFN with its current weights on all examples. */
async function runExamples(given: IndexedFfn, shape: FfnShape, sums: readonly ExampleSum[]): Promise<void> {
  const { engine, model, index, facts, module, linears, source, examples, signal } = given;
  const compiled = await compileStage({
    engine,
    model,
    index,
    isAvailable: (value) => value === source,
    fetches: [],
    reads: [module.output.result, module.output.input, ...linears.map(({ result }) => result)],
    extension: (slice) => joinExtensions([rowNodes(given, shape), ...sums.map(({ extension }) => extension(slice))]),
    facts,
  });
  try {
    for (const example of examples) {
      signal?.throwIfAborted();
      const feeds = Object.assign({ [source]: example.source }, ...sums.map((sum) => sum.feeds(example)));
      const values = await compiled.session.run(feeds);
      for (const sum of sums) sum.add(values);
      releaseTensors(values);
      given.onExample?.();
    }
  } finally {
    await compiled.session.release();
  }
}

/** Dims and small integers of every value from the FFN's source to its result; undefined if it reads other values too. */
async function probe(given: IndexedFfn): Promise<ValueFacts | undefined> {
  const { engine, model, index, facts, module, source, examples } = given;
  const isAvailable = (value: string) => value === source;
  const { nodes, inputs, initializers } = extractStage(index, { outputs: [module.output.result], isAvailable });
  if (inputs.some((name) => name !== source)) return undefined;
  const fetches = nodes.flatMap(({ output }) => output.filter((value) => value !== ''));
  if (!fetches.includes(module.output.input)) return undefined;
  const found = new Map<string, ValueFact>();
  for (const name of initializers) {
    const handle = model.weights.get(name);
    if (handle !== undefined) found.set(name, await factOfWeight(handle));
  }
  const { session } = await compileStage({ engine, model, index, isAvailable, fetches, facts });
  try {
    const read = examples[0]!.source;
    const values = await session.run({ [source]: read });
    for (const [name, tensor] of Object.entries({ ...values, [source]: read })) found.set(name, factOf(tensor));
    releaseTensors(values);
    return found;
  } finally {
    await session.release();
  }
}

const scalar = ({ data }: Tensor): number => Number(data[0]);
