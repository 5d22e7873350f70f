import { create } from '@bufbuild/protobuf';
import { NodeProtoSchema } from 'onnx-buf';
import type { PrunableModule } from '../architecture/layout.js';
import { findRouterScores, type RouterScores } from '../architecture/router-scores.js';
import { transposeMatrix } from '../linalg/matrix-block.js';
import { sum } from '../linalg/sum.js';
import { makeInt64Initializer, makeNode } from '../onnx/build.js';
import { FLOAT32, INT32 } from '../onnx/data-types.js';
import { decodeFloats } from '../onnx/float-encoding.js';
import { indexGraph } from '../onnx/graph-index.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import type { AnalysedModel } from '../runtime/analyse-model.js';
import { compileStage, type StageExtension } from '../runtime/compile-stage.js';
import type { Engine, Tensor, Tensors } from '../runtime/engine.js';
import { tensorFloats } from '../runtime/tensor-floats.js';
import { releaseTensors } from '../runtime/tensor-memory.js';
import type { NeuronProbe } from './expert-neurons.js';
import { type ExpertOutputs, type ExpertProbe, type ExpertRows, gatherRows, outputNodes } from './expert-probe.js';
import type { ExpertRouter, Route } from './expert-router.js';

export interface UnfusedExpertsRequest {
  readonly engine: Engine;
  readonly model: OnnxModel;
  readonly analysed: AnalysedModel;
  /** With `unfusedExperts`. */
  readonly module: PrunableModule;
  /** Type of the experts' input. */
  readonly type: Tensor['type'];
}

export interface UnfusedProbeRequest extends UnfusedExpertsRequest {
  /** `[size, size]` row-major; rows are multiplied by it, so that squared norms are costs in the metric. Default: the identity. */
  readonly metric: Float32Array | undefined;
}

export interface UnfusedRouterRequest extends UnfusedExpertsRequest {
  readonly inputs: ExpertRows;
}

/** Most bytes of weights that are gathered at once: each token gets a copy of the weights of its experts. */
const MAX_GATHERED_BYTES = 2 ** 28;

/** Opens an unfused mixture so that single experts can be run without the router. */
export async function openUnfusedProbe(request: UnfusedProbeRequest): Promise<ExpertProbe> {
  const { chosen, outputs } = request.module.unfusedExperts!;
  const [only, second] = outputs;
  return second === undefined ? openGathered(request, { chosen, output: only! }) : openBranches(request, outputs);
}

/** Experts with gathered weights: expert indices are fed instead of the router's choice. */
async function openGathered(
  request: UnfusedProbeRequest,
  { chosen, output }: { readonly chosen: string; readonly output: string },
): Promise<ExpertProbe> {
  const { module, metric } = request;
  const { outputCount: size } = module.output;
  const extension = outputNodes(output, { metric, size });
  const session = await openBetween(request, { given: [module.input, chosen], reads: [output], extension });
  return {
    async run(rows, lists) {
      const total = countPairs(lists);
      const found = { weighted: new Float32Array(total * size), squares: new Float32Array(total) };
      for (const { feeds, pairs } of gatheredRuns(request, { chosen, rows, lists })) {
        const outputs = extension.read(await session.run(feeds, extension.outputs));
        for (const { from, to, length } of pairs) {
          found.weighted.set(outputs.weighted.subarray(from * size, (from + length) * size), to * size);
          found.squares.set(outputs.squares.subarray(from, from + length), to);
        }
      }
      return found;
    },
    release: () => session.release(),
  };
}

const countPairs = (lists: readonly (readonly number[])[]): number =>
  lists.reduce((sum, { length }) => sum + length, 0);

/** Rows and their experts, see `ExpertProbe`. */
interface GatheredPairs {
  readonly chosen: string;
  readonly rows: ExpertRows;
  readonly lists: readonly (readonly number[])[];
}

/** One run of experts with gathered weights, and the output positions of its pairs of row and expert. */
interface GatheredRun {
  readonly feeds: Tensors;
  readonly pairs: readonly { readonly from: number; readonly to: number; readonly length: number }[];
}

/** Runs of exactly k experts per row: rows with more are fed several times, rows with fewer repeat an expert. */
function* gatheredRuns(
  request: UnfusedExpertsRequest,
  { chosen, rows, lists }: GatheredPairs,
): Generator<GatheredRun, void, undefined> {
  const { module } = request;
  const count = module.expertsPerToken!;
  const atOnce = Math.max(1, Math.floor(MAX_GATHERED_BYTES / (4 * module.parametersPerUnit * count)));
  const pieces = lists.flatMap((list, row) =>
    Array.from({ length: Math.ceil(list.length / count) }, (_, at) => ({
      row,
      experts: list.slice(at * count, (at + 1) * count),
    })),
  );
  let filled = 0;
  for (let start = 0; start < pieces.length; start += atOnce) {
    const part = pieces.slice(start, start + atOnce);
    const numbers = part.flatMap(({ experts }) => Array.from({ length: count }, (_, at) => experts[at] ?? experts[0]!));
    const indices = part.map(({ row }) => row);
    const pairs = part.map(({ experts: { length } }, piece) => {
      const pair = { from: piece * count, to: filled, length };
      filled += length;
      return pair;
    });
    const gathered = gatherRows(rows, indices, module.output.outputCount);
    yield {
      feeds: { [module.input]: rowsTensor(request, gathered), [chosen]: choiceTensor(request, numbers) },
      pairs,
    };
  }
}

/** Opens a mixture with gathered weights so that the neurons of single experts can be read. */
export async function openGatheredNeurons(request: UnfusedExpertsRequest): Promise<NeuronProbe> {
  const { analysed, model, module } = request;
  const { chosen } = module.unfusedExperts!;
  const { activations, second, labels } = analysed.detected.traces[module.index]!.neurons!;
  const { unitCount: neuronCount } = module.neurons!;
  const session = await openBetween(request, { given: [module.input, chosen], reads: [], fetches: [activations!] });
  return {
    async run(rows, lists) {
      const found = new Float32Array(countPairs(lists) * neuronCount);
      for (const { feeds, pairs } of gatheredRuns(request, { chosen, rows, lists })) {
        const values = await session.run(feeds, [activations!]);
        const neurons = tensorFloats(values[activations!]!, 'outputs of neurons');
        for (const { from, to, length } of pairs)
          found.set(neurons.subarray(from * neuronCount, (from + length) * neuronCount), to * neuronCount);
        releaseTensors(values);
      }
      return found;
    },
    async readSecondLinear(expert) {
      const handle = model.weights.get(second.weight)!;
      const [, first = 1, last = 1] = handle.dims;
      const byteLength = handle.byteLength / handle.dims[0]!;
      const values = decodeFloats(
        handle.dataType,
        await handle.read({ offset: expert * byteLength, length: byteLength }),
      );
      return labels.get(second.weight)!.axis === 1 ? values : transposeMatrix(values, first, last);
    },
    release: () => session.release(),
  };
}

/** Feed of expert indices, instead of the router's choice. */
function choiceTensor({ analysed, module }: UnfusedExpertsRequest, numbers: readonly number[]): Tensor {
  const { dims, dataType } = analysed.facts.first.get(module.unfusedExperts!.chosen)!;
  const count = module.expertsPerToken!;
  const shape = [...dims.slice(0, -2).map(() => 1), numbers.length / count, count];
  return dataType === INT32
    ? { type: 'int32', dims: shape, data: Int32Array.from(numbers) }
    : { type: 'int64', dims: shape, data: BigInt64Array.from(numbers, BigInt) };
}

/** Experts that are separate nodes: all run on each row, and the wanted outputs are gathered. */
async function openBranches(request: UnfusedProbeRequest, outputs: readonly string[]): Promise<ExpertProbe> {
  const { module, metric } = request;
  const { outputCount: size } = module.output;
  const [stacked, flat, places, picked] = ['stacked', 'flat', 'places', 'picked'].map(
    (name) => `experts/probe/${name}`,
  ) as [string, string, string, string];
  const [apart, wide] = ['experts/probe/apart', 'experts/probe/wide'];
  const results = outputNodes(picked, { metric, size });
  const extension: StageExtension = {
    nodes: [
      ...outputs.map((value, expert) =>
        makeNode({ op: 'Reshape', inputs: [value, apart], outputs: [`experts/probe/output/${expert}`] }),
      ),
      makeNode({
        op: 'Concat',
        inputs: outputs.map((_, expert) => `experts/probe/output/${expert}`),
        outputs: [stacked],
        attributes: { axis: 1 },
      }),
      makeNode({ op: 'Reshape', inputs: [stacked, wide], outputs: [flat] }),
      makeNode({ op: 'Gather', inputs: [flat, places], outputs: [picked], attributes: { axis: 0 } }),
      ...results.nodes,
    ],
    initializers: [
      makeInt64Initializer(apart, [-1, 1, size]),
      makeInt64Initializer(wide, [-1, size]),
      ...results.initializers,
    ],
    inputs: [{ name: places, type: 'int64' }],
    outputs: results.outputs,
  };
  const session = await openBetween(request, { given: [module.input], reads: outputs, extension });
  return {
    async run(rows, lists): Promise<ExpertOutputs> {
      const numbers = lists.flatMap((list, row) => list.map((expert) => BigInt(row * outputs.length + expert)));
      const feeds = {
        [module.input]: rowsTensor(request, rows),
        [places]: { type: 'int64', dims: [numbers.length], data: BigInt64Array.from(numbers) } as Tensor,
      };
      return results.read(await session.run(feeds, results.outputs));
    },
    release: () => session.release(),
  };
}

/** An unfused router, run separately with experts masked out. */
export interface UnfusedRouter extends ExpertRouter {
  release(): Promise<void>;
}

/** Far below every score, and finite in float16. */
const MASKED_SCORE = -3e4;

/** Opens the router of an unfused mixture: its own nodes, with the scores of removed experts set to a large negative number. */
export async function openUnfusedRouter(request: UnfusedRouterRequest): Promise<UnfusedRouter> {
  const { module, inputs } = request;
  const { chosen, routingWeights } = module.unfusedExperts!;
  const { inputCount: expertCount, outputCount: size } = module.output;
  const count = module.expertsPerToken!;
  const session = await openBetween(
    { ...request, model: withMask(request) },
    { given: [module.input, MASK], reads: [], fetches: [chosen, routingWeights] },
  );
  const routeRows = async (tokens: readonly number[], mask: Float32Array): Promise<Route[]> => {
    const values = await session.run(
      {
        [module.input]: rowsTensor(request, gatherRows(inputs, tokens, size)),
        [MASK]: { type: 'float32', dims: [tokens.length, expertCount], data: mask },
      },
      [chosen, routingWeights],
    );
    const numbers = Array.from(values[chosen]!.data as ArrayLike<number | bigint>, Number);
    const parts = tensorFloats(values[routingWeights]!, 'routing weights of experts').slice();
    releaseTensors(values);
    return tokens.map((_, row) => ({
      experts: numbers.slice(row * count, (row + 1) * count),
      routingWeights: parts.subarray(row * count, (row + 1) * count),
    }));
  };
  return {
    async route(tokens, remaining) {
      const mask = Float32Array.from(remaining, (flag) => (flag === 1 ? 0 : MASKED_SCORE));
      const repeatMask = (rows: number) => {
        const masks = new Float32Array(rows * expertCount);
        for (let row = 0; row < rows; row += 1) masks.set(mask, row * expertCount);
        return masks;
      };
      const routes = await routeRows(tokens, repeatMask(tokens.length));
      const remainingCount = sum(remaining);
      if (remainingCount <= module.leastExperts!) return routes;
      const masks = repeatMask(tokens.length * count);
      routes.forEach(({ experts }, row) => {
        experts.forEach((expert, rank) => {
          masks[(row * count + rank) * expertCount + expert] = MASKED_SCORE;
        });
      });
      const without = await routeRows(
        tokens.flatMap((token) => Array.from({ length: count }, () => token)),
        masks,
      );
      return routes.map((route, row) => ({ ...route, without: without.slice(row * count, (row + 1) * count) }));
    },
    release: () => session.release(),
  };
}

const MASK = 'experts/router/gone';

/** Adds a mask to the scores at every operator that ranks experts, in a copy of the model. */
function withMask({ model, analysed, module }: UnfusedRouterRequest): OnnxModel {
  const graph = model.proto.graph!;
  const masks = findRouterScores(analysed.detected, module).map((scores, at) => ({
    ...scores,
    ...maskNodes(scores, at, analysed),
  }));
  const node = graph.node.flatMap((found) => {
    const [result = ''] = found.output;
    const here = masks.filter(({ readers }) => readers.includes(result));
    if (here.length === 0) return [found];
    const maskedOf = new Map(here.map(({ value, masked }) => [value, masked]));
    const input = found.input.map((value) => maskedOf.get(value) ?? value);
    const before = here.filter(({ readers }) => readers[0] === result).flatMap(({ nodes }) => nodes);
    return [...before, create(NodeProtoSchema, { ...found, input })];
  });
  const initializer = [...graph.initializer, ...masks.map(({ shape }) => shape)];
  return { ...model, proto: { ...model.proto, graph: { ...graph, node, initializer } } };
}

/** Nodes that add the mask to a value, once for all its readers. */
function maskNodes({ value, dims }: RouterScores, at: number, { facts }: AnalysedModel) {
  const [cast, shaped, shape, masked] = ['cast', 'shaped', 'shape', 'masked'].map(
    (name) => `experts/router/${at}/${name}`,
  ) as [string, string, string, string];
  const { dims: first, dataType } = facts.first.get(value)!;
  const second = facts.second.get(value)!.dims;
  const leading = first.slice(0, first.length - dims.length);
  const rows = leading.findLastIndex((dim, axis) => dim !== second[axis]);
  return {
    masked,
    shape: makeInt64Initializer(shape, [...leading.map((_, axis) => (axis === rows ? -1 : 1)), ...dims]),
    nodes: [
      makeNode({ op: 'Cast', inputs: [MASK], outputs: [cast], attributes: { to: dataType } }),
      makeNode({ op: 'Reshape', inputs: [cast, shape], outputs: [shaped] }),
      makeNode({ op: 'Add', inputs: [value, shaped], outputs: [masked] }),
    ],
  };
}

interface Between {
  readonly given: readonly string[];
  readonly reads: readonly string[];
  readonly fetches?: readonly string[];
  readonly extension?: StageExtension;
}

/** A session of the nodes between some values. */
async function openBetween(
  { engine, model, analysed }: UnfusedExpertsRequest,
  { given, reads, fetches = [], extension }: Between,
) {
  const mask = { dataType: FLOAT32 };
  const withMask = (facts: AnalysedModel['facts']['first'], rows: number) =>
    new Map([...facts, [MASK, { ...mask, dims: [rows, rows] }]]);
  const { session } = await compileStage({
    engine,
    model,
    index: indexGraph(model.proto.graph!),
    fetches,
    reads,
    extension,
    isAvailable: (value) => given.includes(value),
    facts: { first: withMask(analysed.facts.first, 2), second: withMask(analysed.facts.second, 3) },
  });
  return session;
}

function rowsTensor({ analysed, module, type }: UnfusedExpertsRequest, rows: ExpertRows): Tensor {
  const { outputCount: size } = module.output;
  const { dims } = analysed.facts.first.get(module.input)!;
  return { type, dims: [...dims.slice(0, -2).map(() => 1), rows.length / size, size], data: rows } as Tensor;
}
