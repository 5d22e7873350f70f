import type { NodeProto } from 'onnx-buf';
import type { TensorOps } from '../onnx/tensor-ops.js';
import type { Value } from '../onnx/value.js';
import type { ValueFact } from '../onnx/value-facts.js';
import type { ConstantReader } from './constants.js';
import { type RuleContext, unsupported } from './gradient-rule.js';

/** Sources of a context. */
export interface ContextSources {
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
export function createRuleContext(
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
