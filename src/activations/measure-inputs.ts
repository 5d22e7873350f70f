import { extractStage } from '../graph/extract-stage.js';
import type { ValueFact, ValueFacts } from '../graph/value-facts.js';
import { indexRunGraph } from '../runtime/block-runner.js';
import { compileStage, joinExtensions, type LoadedSlice, type StageExtension } from '../runtime/compile-stage.js';
import type { Tensor, Tensors } from '../runtime/engine.js';
import { factOf, factOfWeight } from '../runtime/probe-values.js';
import { releaseTensors } from '../runtime/tensor-memory.js';
import { createGramSum, type GramSum } from './gram-sum.js';
import {
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
   * Mean over tokens of `x a'`, x the FFN's input and a the error's gradient by what a map gives: `[in, neurons]` row-major, one
   * for each list of columns, map by map.
   */
  readonly gradients: readonly Float64Array[];
}

/** What the curvature of the error is made of. */
export interface InputFactors {
  /** Mean over tokens of `x x'`, `[in, in]`. */
  readonly inputGram: Float64Array;
  /**
   * Mean over tokens of `d d'`, d how fast each neuron's value rises with what a map gives it: `[neurons, neurons]`, one for each
   * list of columns.
   */
  readonly rates: readonly Float64Array[];
}

/** Measures a pruned FFN on its examples, at the weights that the model has then. */
export interface InputMeter {
  /** Error and gradients. */
  measure(): Promise<MeasuredInputs>;
  /** The error alone. */
  measureError(): Promise<number>;
  /** The factors of the curvature. */
  measureFactors(): Promise<InputFactors>;
  /**
   * Mean over the sample's tokens of the squared change of the output along a step, to first order.
   * @param steps `[in, neurons]` row-major, one for each list of columns. @param outputWeight `[neurons, out]` row-major.
   */
  measureChange(steps: readonly Float64Array[], outputWeight: Float32Array): Promise<number>;
}

/**
 * Prepares to measure how an FFN's error depends on the maps into it.
 * @returns undefined where the FFN reads more than its input.
 * @throws UnsupportedModelError when an operator between the maps and the output has no gradient rule.
 */
export async function createInputMeter(given: PrunedFfn): Promise<InputMeter | undefined> {
  const facts = await probe(given);
  if (facts === undefined) return undefined;
  const neuronCount = given.maps[0]!.columns[0]!.length;
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
    measure: () => measure(given, shape),
    async measureError() {
      let sum = 0;
      await runExamples(given, {
        extension: () => errorNodes(given),
        take: (values) => {
          sum += scalar(values[ERROR]!);
        },
      });
      return sum / shape.tokenCount / 2;
    },
    measureFactors: () => measureFactors(given, shape),
    measureChange: (steps, outputWeight) => measureChange(sample, shapeOf(sample), { steps, outputWeight }),
  };
}

async function measure(given: PrunedFfn, shape: FfnShape): Promise<MeasuredInputs> {
  const { tokenCount } = shape;
  const lists = listsOf(given);
  const sums = lists.map(({ name }) => createProductSum(`${name}/gradient`, ROWS, `${name}/cotangent`));
  let error = 0;
  await runExamples(given, {
    extension(slice) {
      const cotangents = cotangentNodes(given, shape, slice);
      const products = lists.flatMap((list, at) => [
        columnNodes(list, shape, { value: cotangents.of(list.result), to: `${list.name}/cotangent` }),
        sums[at]!.extension,
      ]);
      return joinExtensions([errorNodes(given), rowNodes(given, shape), cotangents.extension, ...products]);
    },
    feeds: () => Object.assign({}, ...sums.map((sum) => sum.feeds())),
    take(values) {
      error += scalar(values[ERROR]!);
      for (const sum of sums) sum.add(values);
    },
  });
  return { error: error / tokenCount / 2, gradients: sums.map((sum) => sum.finish(tokenCount)) };
}

async function measureFactors(given: PrunedFfn, shape: FfnShape): Promise<InputFactors> {
  const { inputCount, neuronCount, tokenCount } = shape;
  const lists = listsOf(given);
  const grams: GramSum[] = [];
  const gramOf = (name: string, rows: string, size: number): StageExtension => {
    const gram = createGramSum({ name: `${name}/gram`, left: `${name}/turned`, right: `${name}/turned`, size });
    grams.push(gram);
    return { ...gram, nodes: [node('Transpose', [rows], `${name}/turned`, { perm: [1, 0] }), ...gram.nodes] };
  };
  await runExamples(given, {
    extension(slice) {
      const rates = rateNodes(given, shape, slice);
      const products = lists.flatMap((list) => {
        const to = `${list.name}/rate`;
        return [columnNodes(list, shape, { value: rates.of(list.result), to }), gramOf(list.name, to, neuronCount)];
      });
      const input = gramOf('inputs/input', ROWS, inputCount);
      return joinExtensions([rowNodes(given, shape), rates.extension, ...products, input]);
    },
    readsTarget: false,
    feeds: () => Object.assign({}, ...grams.map((gram) => gram.feeds())),
    take(values) {
      for (const gram of grams) gram.add(values);
    },
  });
  const finished = grams.map((gram) => gram.finish(tokenCount));
  return { inputGram: finished.at(-1)!, rates: finished.slice(0, -1) };
}

async function measureChange(
  given: PrunedFfn,
  shape: FfnShape,
  { steps, outputWeight }: { readonly steps: readonly Float64Array[]; readonly outputWeight: Float32Array },
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
    return joinExtensions([rowNodes(given, shape), rates.extension, ...parts, total]);
  };
  const feeds: Record<string, Tensor> = {
    'inputs/output': { type: 'float32', dims: [neuronCount, module.output.outputCount], data: outputWeight },
  };
  lists.forEach(({ name }, at) => {
    feeds[`${name}/step`] = {
      type: 'float32',
      dims: [inputCount, neuronCount],
      data: Float32Array.from(steps[at]!),
    };
  });
  let sum = 0;
  await runExamples(given, {
    extension,
    readsTarget: false,
    feeds: () => feeds,
    take: (values) => {
      sum += scalar(values['inputs/change']!);
    },
  });
  return sum / tokenCount;
}

interface ExampleRun {
  readonly extension: (slice: LoadedSlice) => StageExtension;
  /** Default true. */
  readonly readsTarget?: boolean;
  readonly feeds?: () => Tensors;
  take(values: Tensors): void;
}

/** Runs the FFN as it is now on all examples. */
async function runExamples(given: PrunedFfn, run: ExampleRun): Promise<void> {
  const { engine, model, facts, module, maps, source, examples, signal } = given;
  const compiled = await compileStage({
    engine,
    model,
    index: indexRunGraph(model),
    atHand: (value) => value === source,
    fetches: [],
    reads: [module.output.result, module.output.input, ...maps.map(({ result }) => result)],
    extension: run.extension,
    facts,
  });
  try {
    for (const { source: read, target } of examples) {
      signal?.throwIfAborted();
      const feeds = { [source]: read, ...(run.readsTarget !== false && { [TARGET]: target }), ...run.feeds?.() };
      const values = await compiled.session.run(feeds);
      run.take(values);
      releaseTensors(values);
      given.onExample?.();
    }
  } finally {
    await compiled.session.release();
  }
}

/** Dims and small integers of every value between the FFN's source and its result; undefined where it starts from more. */
async function probe({ engine, model, facts, module, source, examples }: PrunedFfn): Promise<ValueFacts | undefined> {
  const index = indexRunGraph(model);
  const atHand = (value: string) => value === source;
  const { nodes, inputs, initializers } = extractStage(index, { outputs: [module.output.result], atHand });
  if (inputs.some((name) => name !== source)) return undefined;
  const fetches = nodes.flatMap(({ output }) => output.filter((value) => value !== ''));
  if (!fetches.includes(module.output.input)) return undefined;
  const found = new Map<string, ValueFact>();
  for (const name of initializers) {
    const handle = model.weights.get(name);
    if (handle !== undefined) found.set(name, await factOfWeight(handle));
  }
  const { session } = await compileStage({ engine, model, index, atHand, fetches, facts });
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
