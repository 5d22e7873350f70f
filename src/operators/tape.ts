import type { NodeProto } from 'onnx-buf';
import { OptionError } from '../errors.js';
import { isFloatType } from '../onnx/float-encoding.js';
import { inputsOf } from '../onnx/graph-index.js';
import { createNodeEmitter } from '../onnx/node-emitter.js';
import { createTensorOps, type TensorOps } from '../onnx/tensor-ops.js';
import { gradientType, sameDims, type Value } from '../onnx/value.js';
import { OPEN, type ValueFact, type ValueFacts } from '../onnx/value-facts.js';
import { type ConstantReader, createConstantReader } from './constants.js';
import type { ForwardGraph } from './forward-graph.js';
import {
  type Cotangent,
  type Lowering,
  type RuleContext,
  unsupported,
  type VjpRule,
  type WindowCotangent,
} from './gradient-rule.js';
import { gradientOf, operatorOf } from './table.js';

/** State of one reverse pass. */
export interface Tape {
  readonly o: TensorOps;
  factOf(name: string): ValueFact;
  /** Marks a value as depending on a wanted one. */
  activate(name: string): void;
  /** Marks a node's float outputs when one of its inputs is marked. */
  spread(node: NodeProto): void;
  /** Adds a cotangent of a value. */
  receive(name: string, cotangent: Cotangent): void;
  /** Sum of a value's cotangents so far. */
  take(name: string): Value | undefined;
  /** Propagates the cotangents of a node's outputs to its inputs. */
  differentiate(node: NodeProto): void;
}

export interface TapeOptions {
  readonly graph: ForwardGraph;
  readonly shapes: ValueFacts;
  /** Start of all new names. */
  readonly prefix: string;
}

/** Starts a reverse pass over a graph. */
export function createTape({ graph, shapes, prefix }: TapeOptions): Tape {
  const emitter = createNodeEmitter(prefix);
  const o = createTensorOps(emitter, graph.opset);
  const constantOf = createConstantReader(graph.nodes, graph.initializers);
  const producers = new Map(graph.nodes.flatMap((node) => node.output.map((name) => [name, node] as const)));
  const active = new Set<string>();
  const cotangents = new Map<string, Cotangent[]>();
  /** Float32 copies of half-precision values, and back. */
  const casts = new Map<string, Value>();
  const originals = new Map<string, string>();
  const originalOf = (name: string): string => originals.get(name) ?? name;

  const factOf = (name: string): ValueFact => {
    const fact = shapes.get(name) ?? emitter.factOf(name);
    if (fact !== undefined) return fact;
    const initializer = graph.initializers.get(name);
    if (initializer !== undefined) return { dims: initializer.dims.map(Number), dataType: initializer.dataType };
    throw new OptionError(
      `The shape of value "${name}" is unknown. Pass the dims of every value of the graph, as a probe run gives them.`,
    );
  };

  const readValue = (name: string): Value => {
    const { dims, dataType } = factOf(name);
    const value = { name, dims, dataType };
    if (!isFloatType(dataType) || gradientType(dataType) === dataType) return value;
    const known = casts.get(name);
    if (known !== undefined) return known;
    const cast = o.cast(value, gradientType(dataType));
    casts.set(name, cast);
    originals.set(cast.name, name);
    return cast;
  };

  const isOpen = (name: string): boolean => (shapes.get(name) ?? emitter.factOf(name))?.dims.includes(OPEN) ?? false;
  const isActive = (name: string): boolean => active.has(originalOf(name));

  const tape: Tape = {
    o,
    factOf,
    activate: (name) => active.add(name),
    spread(node) {
      if (!inputsOf(node).some(isActive)) return;
      if (operatorOf(node)?.gradient === 'zero') return;
      for (const name of node.output) if (name !== '' && isFloatType(factOf(name).dataType)) active.add(name);
    },
    receive(name, cotangent) {
      const original = originalOf(name);
      const known = cotangents.get(original);
      if (known === undefined) cotangents.set(original, [cotangent]);
      else known.push(cotangent);
    },
    take(name) {
      const sum = sumCotangents(o, cotangents.get(name) ?? [], factOf(name).dims);
      if (sum !== undefined) cotangents.set(name, [sum]);
      return sum;
    },
    differentiate(node) {
      if (!inputsOf(node).some(isActive) || !node.output.some((name) => cotangents.has(name))) return;
      const gradient = gradientOf(node);
      if (gradient === 'zero') return;
      if (!('openRule' in gradient) && [...node.input, ...node.output].some(isOpen)) {
        throw unsupported(node, 'a size that it reads depends on the data.');
      }
      const context = createRuleContext(node, {
        o,
        readValue,
        take: tape.take,
        constantOf,
        producerOf: (name) => producers.get(name),
        factOf,
        isActive,
      });
      if ('lower' in gradient) applyLowering(node, { lower: gradient.lower, context, tape });
      else applyRule(node, { rule: 'openRule' in gradient ? gradient.openRule : gradient, context, tape });
    },
  };
  return tape;
}

interface Step {
  readonly context: RuleContext & { unread(): readonly number[] };
  readonly tape: Tape;
}

function applyRule(node: NodeProto, { rule, context, tape }: Step & { readonly rule: VjpRule }): void {
  const cotangents = rule(context);
  const [unread] = context.unread();
  if (unread !== undefined) {
    throw unsupported(
      node,
      `its output ${unread} ("${node.output[unread]}") is used, and the rule does not cover that.`,
    );
  }
  node.input.forEach((name, at) => {
    const cotangent = cotangents[at];
    if (cotangent !== undefined && context.wants(at)) tape.receive(name, cotangent);
  });
}

function applyLowering(node: NodeProto, { lower, context, tape }: Step & { readonly lower: Lowering }): void {
  const { result: outputs, nodes } = tape.o.emitter.record(() => lower(context));
  for (const lowered of nodes) tape.spread(lowered);
  for (const at of context.unread()) {
    const output = outputs[at];
    const cotangent = context.cotangent(at);
    if (output === undefined) throw unsupported(node, `its output ${at} ("${node.output[at]}") is used.`);
    if (cotangent !== undefined) tape.receive(output.name, cotangent);
  }
  for (const lowered of nodes.toReversed()) tape.differentiate(lowered);
}

/**
 * Adds up all cotangents of one value: undoes broadcasting in both directions and joins windows.
 * Returns undefined when there are none. The result has exactly `dims`.
 */
function sumCotangents(o: TensorOps, cotangents: readonly Cotangent[], dims: readonly number[]): Value | undefined {
  const complete: Value[] = [];
  const windows: WindowCotangent[] = [];
  for (const cotangent of cotangents) {
    if ('name' in cotangent) complete.push(sumToDims(o, cotangent, dims));
    else if ('window' in cotangent) windows.push(cotangent);
    else windows.push(...cotangent);
  }
  const terms = [...complete, ...joinWindows(o, windows, dims)];
  const sum = terms.length === 0 ? undefined : terms.reduce((left, right) => o.add(left, right));
  return sum && o.expand(sum, dims);
}

/** Sums over the axes along which the value was broadcast; axes of size 1 in the cotangent remain so. */
function sumToDims(o: TensorOps, cotangent: Value, dims: readonly number[]): Value {
  const extra = cotangent.dims.length - dims.length;
  if (extra < 0 || sameDims(cotangent.dims, dims)) return cotangent;
  const repeated = cotangent.dims.flatMap((dim, axis) =>
    axis < extra || (dims[axis - extra] === 1 && dim !== 1) ? [axis] : [],
  );
  const summedDims = cotangent.dims.slice(extra).map((dim, axis) => (dims[axis] === 1 ? 1 : dim));
  return o.reshape(o.sum(cotangent, repeated, true), summedDims);
}

/** Windows of one axis that do not overlap are concatenated; others are padded one by one. */
function joinWindows(o: TensorOps, windows: readonly WindowCotangent[], dims: readonly number[]): Value[] {
  const axes = new Set(windows.map(({ axis }) => axis));
  return [...axes].flatMap((axis) => {
    const sorted = windows.filter((window) => window.axis === axis).sort((a, b) => a.start - b.start);
    const overlap = sorted.some((window, at) => at > 0 && window.start < endOf(sorted[at - 1]));
    const groups = overlap ? sorted.map((window) => [window]) : [sorted];
    return groups.map((group) => fillGaps(o, group, dims));
  });
}

function endOf(window: WindowCotangent | undefined): number {
  return window === undefined ? 0 : window.start + (window.window.dims[window.axis] ?? 0);
}

function fillGaps(o: TensorOps, windows: readonly WindowCotangent[], dims: readonly number[]): Value {
  const [first] = windows;
  if (first === undefined) return o.zeros(dims, 1);
  const { axis } = first;
  const length = dims[axis] ?? 0;
  if (windows.length === 1) return o.pad(first.window, axis, { before: first.start, after: length - endOf(first) });
  const zeros = (count: number): Value[] =>
    count > 0 ? [o.zeros(first.window.dims.with(axis, count), first.window.dataType)] : [];
  const parts = windows.flatMap((window, at) => [...zeros(window.start - endOf(windows[at - 1])), window.window]);
  return o.concat([...parts, ...zeros(length - endOf(windows.at(-1)))], axis);
}

/** Sources of a context. */
interface ContextSources {
  readonly o: TensorOps;
  /** A forward value in gradient precision. */
  readonly readValue: (name: string) => Value;
  /** A value's summed cotangent. */
  readonly take: (name: string) => Value | undefined;
  readonly factOf: (name: string) => ValueFact;
  readonly constantOf: ConstantReader;
  readonly producerOf: (name: string) => NodeProto | undefined;
  readonly isActive: (name: string) => boolean;
}

/** Creates the rule context of one node; `unread` returns the outputs whose cotangent the rule did not read. */
function createRuleContext(
  node: NodeProto,
  { o, readValue, take, factOf, constantOf, producerOf, isActive }: ContextSources,
): RuleContext & { unread(): readonly number[] } {
  const cotangents = new Map<number, Value>();
  node.output.forEach((name, at) => {
    const cotangent = name === '' ? undefined : take(name);
    if (cotangent !== undefined) cotangents.set(at, cotangent);
  });
  const read = new Set<number>();

  const inputName = (at: number): string => {
    const name = node.input[at] ?? '';
    if (name === '') throw unsupported(node, `its input ${at} is missing.`);
    return name;
  };
  const cotangent = (at: number): Value | undefined => {
    read.add(at);
    return cotangents.get(at);
  };
  const knownInts = (at: number): readonly number[] | undefined => factOf(inputName(at)).ints;

  return {
    node,
    opset: o.opset,
    o,
    get g() {
      const first = cotangent(0);
      if (first === undefined) throw unsupported(node, 'only outputs other than its first are used.');
      return first;
    },
    cotangent,
    has: (at) => (node.input[at] ?? '') !== '',
    input: (at) => readValue(inputName(at)),
    output: (at) => {
      const name = node.output[at] ?? '';
      if (name === '') throw unsupported(node, `its output ${at} is missing.`);
      return readValue(name);
    },
    wants: (at) => isActive(node.input[at] ?? ''),
    ints: (at) => {
      const ints = knownInts(at);
      if (ints !== undefined) return ints;
      throw unsupported(node, `its input ${at} ("${node.input[at]}") is computed, and its contents are unknown.`);
    },
    knownInts,
    producer: (at) => producerOf(inputName(at)),
    constant: (at) => constantOf(inputName(at)),
    unread: () => [...cotangents.keys()].filter((at) => !read.has(at)),
  };
}
