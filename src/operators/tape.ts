import type { NodeProto } from 'onnx-buf';
import { OptionError } from '../errors.js';
import { isFloatType } from '../onnx/float-encoding.js';
import { inputsOf } from '../onnx/graph-index.js';
import { createNodeEmitter } from '../onnx/node-emitter.js';
import { createTensorOps, type TensorOps } from '../onnx/tensor-ops.js';
import { gradientType, type Value } from '../onnx/value.js';
import { OPEN, type ValueFact, type ValueFacts } from '../onnx/value-facts.js';
import { sumCotangents } from './accumulate.js';
import { createConstantReader } from './constants.js';
import type { ForwardGraph } from './forward-graph.js';
import { type Cotangent, type Lowering, type RuleContext, unsupported, type VjpRule } from './gradient-rule.js';
import { createRuleContext } from './rule-context.js';
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
