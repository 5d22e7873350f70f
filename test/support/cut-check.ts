import { create } from '@bufbuild/protobuf';
import { GraphProtoSchema, ModelProtoSchema, type NodeProto, OperatorSetIdProtoSchema } from 'onnx-buf';
import type { DetectedModel } from '../../src/architecture/detect-layout.js';
import { makeInitializer, makeNode } from '../../src/onnx/build.js';
import { indexGraph } from '../../src/onnx/graph-index.js';
import type { OnnxModel } from '../../src/onnx/onnx-model.js';
import { bytesHandle } from '../../src/onnx/tensor-handle.js';
import type { ValueFacts } from '../../src/onnx/value-facts.js';
import { type AxisRule, NeedCoarserUnits, type RuleResult, TraceStop } from '../../src/operators/axis-rule.js';
import { remainingPositions, remainingUnits } from '../../src/removal/remaining-positions.js';
import { removeUnits } from '../../src/removal/remove-units.js';
import type { Tensor } from '../../src/runtime/engine.js';
import { constantsOf, drawInputs, type GradientCase, learnShapes } from './gradient-check.js';
import { DATA_TYPES, runGraph } from './load-graph.js';

/** An axis of the output that was cut, and how far the result is from the dense one's remaining positions. */
export interface AxisCut {
  readonly axis: number;
  readonly largestGap: number;
}

/** The axis of heads in values of three and four axes. */
const HEAD_AXES: Readonly<Record<number, number>> = { 3: 2, 4: 1 };

/**
 * Removes units along every axis of `y` that channels pass through by the rule, with the edits that prune a model, and
 * compares with the dense result; only heads if `headCount` says how many there are. Empty if channels pass through no axis.
 */
export async function runCutCheck(
  given: GradientCase,
  { rule, headCount }: { readonly rule: AxisRule; readonly headCount?: number | undefined },
): Promise<AxisCut[]> {
  const model = asModel(given);
  const facts = await learnShapes(given, drawInputs(given));
  const dense = await run(model, given);
  const cuts: AxisCut[] = [];
  for (const axis of dense.dims.keys()) {
    if (headCount !== undefined && axis !== HEAD_AXES[dense.dims.length]) continue;
    const found = follow(rule, {
      node: model.proto.graph!.node[0]!,
      facts,
      axis,
      size: dense.dims[axis]!,
      unitCount: headCount,
    });
    if (found === undefined) continue;
    const { label, unitCount, result } = found;
    const last = result.groupOfUnit?.at(-1) ?? unitCount - 1;
    const keep = Int32Array.from({ length: unitCount }, (_, unit) => unit).filter(
      (unit) => (result.groupOfUnit?.[unit] ?? unit) !== last,
    );
    const labels = new Map([['y', label], ...result.findings.map(({ value, label: own }) => [value, own] as const)]);
    const trace = {
      unitCount,
      unitSize: 1,
      headsPerUnit: 1,
      labels,
      nodes: [0],
      repeats: [],
      sharesKeyValue: result.sharesKeyValue ?? false,
      keepsKeyValues: false,
      isAttention: false,
      isLinear: false,
      external: new Set([...labels.keys()].filter((value) => value !== 'y')),
      ...(result.groupOfUnit && { groupOfUnit: result.groupOfUnit }),
    };
    const narrowed = asModel(given);
    const detected = { traces: [trace], index: indexGraph(model.proto.graph!) } as Partial<DetectedModel>;
    removeUnits(narrowed, {
      detected: detected as DetectedModel,
      facts: { first: facts, second: facts },
      module: 0,
      keep,
    });
    const want = pick(dense, axis, remainingPositions(label, remainingUnits(keep, result.groupOfUnit)));
    const got = await run(narrowed, given);
    const gaps = numbersOf(got).map((value, at) => Math.abs(value - want.values[at]!));
    cuts.push({
      axis,
      largestGap: got.dims.join() === want.dims.join() ? Math.max(...gaps) : Number.POSITIVE_INFINITY,
    });
  }
  return cuts;
}

function asModel(given: GradientCase): OnnxModel {
  const floats = Object.entries(drawInputs(given)).map(([name, { type, dims, data }]) =>
    makeInitializer(name, DATA_TYPES[type as 'float32'], dims, new Uint8Array((data as Float32Array).slice().buffer)),
  );
  const initializer = [...floats, ...constantsOf(given)];
  const graph = create(GraphProtoSchema, { node: given.nodes.map(makeNode), initializer });
  const opset = create(OperatorSetIdProtoSchema, { domain: '', version: BigInt(given.opset ?? 21) });
  return {
    proto: create(ModelProtoSchema, { graph, opsetImport: [opset] }),
    weights: new Map(
      initializer.map(({ name, dataType, dims, rawData }) => [
        name,
        bytesHandle({ dataType, dims: dims.map(Number) }, Uint8Array.from(rawData)),
      ]),
    ),
  };
}

async function run({ proto, weights }: OnnxModel, { opset = 21 }: GradientCase): Promise<Tensor> {
  const initializers = await Promise.all(
    [...weights].map(async ([name, { dataType, dims, read }]) => makeInitializer(name, dataType, dims, await read())),
  );
  const { y } = await runGraph({ nodes: proto.graph!.node, initializers, inputs: {}, outputs: ['y'], opset });
  return y!;
}

interface Start {
  readonly node: NodeProto;
  readonly facts: ValueFacts;
  readonly axis: number;
  readonly size: number;
  /** Default: one a position. */
  readonly unitCount?: number | undefined;
}

/** Positions in the inputs of channels of the output's axis, merged if the rule asks for it; undefined if there are none. */
function follow(rule: AxisRule, { node, facts, axis, size, unitCount: units = size }: Start) {
  const at = (
    unitCount: number,
  ): { label: { axis: number; unitIds: Int32Array }; unitCount: number; result: RuleResult } => {
    const unitIds = Int32Array.from({ length: size }, (_, position) => Math.floor((position * unitCount) / size));
    const label = { axis, unitIds };
    const result = rule({
      node,
      side: 'output',
      slot: 0,
      label,
      dims: (value) => facts.get(value)?.dims ?? [],
      ints: (value) => facts.get(value)?.ints ?? [],
      isConstant: () => true,
      producerOf: () => undefined,
    });
    return { label, unitCount, result };
  };
  try {
    return units < 2 ? undefined : at(units);
  } catch (stop) {
    if (stop instanceof TraceStop) return undefined;
    if (!(stop instanceof NeedCoarserUnits)) throw stop;
    return stop.unitCount < 2 || stop.unitCount >= size ? undefined : at(stop.unitCount);
  }
}

const numbersOf = ({ data }: Pick<Tensor, 'data'>): number[] => Array.from(data as Float64Array, Number);

function pick({ dims, data }: Tensor, axis: number, positions: Int32Array) {
  const inner = dims.slice(axis + 1).reduce((product, dim) => product * dim, 1);
  const size = dims[axis]!;
  const values = numbersOf({ data }).filter((_, at) => positions.includes(Math.floor(at / inner) % size));
  return { dims: dims.with(axis, positions.length), values };
}
