import { create } from '@bufbuild/protobuf';
import { type GraphProto, GraphProtoSchema, type NodeProto } from 'onnx-buf';
import { intAttribute } from './attributes.js';
import { makeInt64Initializer, makeNode, makeValueInfo } from './build.js';
import { ADDED, findPresent, recentOf } from './cache-names.js';
import { inputsOf, qualifiedOp } from './graph-index.js';
import { type ModelInput, pastAxes, readModelInputs } from './model-inputs.js';

interface Growing {
  readonly input: ModelInput;
  readonly present: string;
  /** Axis of the tokens. */
  readonly axis: number;
}

/**
 * The graph with growing caches as deltas: it returns only the keys and values of the run's tokens, and reads the
 * latest ones from separate inputs. Generating a token then saves two copies of the cache: one out of the engine, and
 * one to append a token at every head.
 * @returns `graph` itself if no cache grows, or a subgraph reads one
 */
export function outputAddedCache(graph: GraphProto): GraphProto {
  const inputs = readModelInputs(graph);
  const tokens = inputs.find(({ role }) => role === 'tokens')!;
  const growing = new Map(
    inputs.flatMap((input): [string, Growing][] => {
      const present = findPresent(input.name, graph.output);
      const grows = input.role === 'past' && input.capacity === undefined && present?.isAdded === false;
      return grows ? [[input.name, { input, present: present.name, axis: pastAxes(input).sequence }]] : [];
    }),
  );
  const readsInside = ({ input }: NodeProto, all: readonly string[]) =>
    all.some((value) => growing.has(value) && !input.includes(value));
  if (growing.size === 0 || graph.node.some((node) => readsInside(node, inputsOf(node)))) return graph;
  const all = [...growing.values()];
  const axes = [...new Set(all.map(({ axis }) => axis))];
  return create(GraphProtoSchema, {
    ...graph,
    input: [
      ...graph.input,
      ...all.map(({ input, axis }) => declare(recentOf(input.name), input, input.dims.with(axis, 'recent'))),
    ],
    node: [
      ...all.map(joinParts),
      ...graph.node.map((node) => readParts(node, growing)),
      makeNode({ op: 'Shape', inputs: [tokens.name], outputs: [`${ADDED}/shape`] }),
      makeNode({ op: 'Gather', inputs: [`${ADDED}/shape`, axisName(1)], outputs: [`${ADDED}/count`] }),
      makeNode({ op: 'Neg', inputs: [`${ADDED}/count`], outputs: [`${ADDED}/start`] }),
      ...all.map(sliceAdded),
    ],
    initializer: [
      ...graph.initializer,
      ...[...new Set([1, ...axes])].map((axis) => makeInt64Initializer(axisName(axis), [axis])),
      makeInt64Initializer(`${ADDED}/end`, [END]),
    ],
    output: graph.output.map((info) => {
      const found = all.find(({ present }) => present === info.name);
      return found ? declare(info.name + ADDED, found.input, found.input.dims.with(found.axis, 'added')) : info;
    }),
  });
}

/** Open end of a slice. */
const END = 2 ** 31 - 1;

const axisName = (axis: number): string => `${ADDED}/axis/${axis}`;

const joinedName = (past: string): string => `${past}/joined`;

const declare = (name: string, { dataType }: ModelInput, dims: readonly (number | string)[]) =>
  makeValueInfo(name, dataType, dims);

/** The concatenated cache, for other readers. */
const joinParts = ({ input: { name }, axis }: Growing): NodeProto =>
  makeNode({ op: 'Concat', inputs: [name, recentOf(name)], outputs: [joinedName(name)], attributes: { axis } });

/** The node with the cache replaced by its parts; a Concat with new tokens reads the parts directly. */
function readParts(node: NodeProto, growing: ReadonlyMap<string, Growing>): NodeProto {
  if (!node.input.some((value) => growing.has(value))) return node;
  const puts = ({ axis, input: { dims } }: Growing) => {
    const stated = intAttribute(node, 'axis', 0);
    return qualifiedOp(node) === 'Concat' && (stated + dims.length) % dims.length === axis;
  };
  const input = node.input.flatMap((value) => {
    const cache = growing.get(value);
    if (cache === undefined) return [value];
    return puts(cache) ? [value, recentOf(value)] : [joinedName(value)];
  });
  return { ...node, input };
}

/** The tokens that a run added to a cache. */
const sliceAdded = ({ present, axis }: Growing): NodeProto =>
  makeNode({
    op: 'Slice',
    inputs: [present, `${ADDED}/start`, `${ADDED}/end`, axisName(axis)],
    outputs: [present + ADDED],
  });
