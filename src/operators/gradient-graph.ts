import type { NodeProto, TensorProto } from 'onnx-buf';
import { OptionError, UnsupportedModelError } from '../errors.js';
import { gradientType } from '../onnx/value.js';
import type { ValueFacts } from '../onnx/value-facts.js';
import type { ForwardGraph } from './forward-graph.js';
import { createTape, type Tape } from './tape.js';

/** Oldest version of ONNX's operators that the emitted nodes are valid in. */
const OLDEST_OPSET = 11;

/** A gradient to compute. */
export interface GradientProblem {
  readonly graph: ForwardGraph;
  /** Concrete dims and types of every value of the graph, contents of small integer ones: the result of a probe run. */
  readonly shapes: ValueFacts;
  /**
   * Values with given cotangents, and the name of each cotangent: a graph input or a computed value with the same dims, float32
   * (float64 for float64 values). Default name: `grad:<value>`.
   */
  readonly outputs: readonly { readonly value: string; readonly cotangent?: string }[];
  /** Values or initializers whose cotangents are computed. */
  readonly wanted: readonly string[];
  /** Start of all new names. Default `vjp/`. */
  readonly prefix?: string;
}

/** Nodes to append after the forward nodes (whose intermediate values they read) in the same graph. */
export interface GradientGraph {
  readonly nodes: readonly NodeProto[];
  readonly initializers: readonly TensorProto[];
  /**
   * Name of each wanted cotangent: distinct names, with the dims of the wanted value, float32 (float64 for float64 values).
   */
  readonly gradients: ReadonlyMap<string, string>;
  /** Operator domains besides ONNX's own that the model must import at version 1. */
  readonly domains: readonly string[];
}

/**
 * Builds the reverse-mode gradient of a graph: sum over outputs of cotangent^T d output / d wanted, for every wanted value.
 *
 * Only nodes between a wanted value and an output with a cotangent are differentiated. Gradients are float32 also in
 * half-precision models: forward values are cast where a rule reads them, and forward nodes are not changed.
 * @throws UnsupportedModelError when a node on the path has no rule, naming it.
 * @throws OptionError when a wanted value does not influence the outputs, or a value's shape is unknown.
 */
export function buildGradientGraph(problem: GradientProblem): GradientGraph {
  const { graph, outputs, wanted, prefix = 'vjp/' } = problem;
  if (graph.opset < OLDEST_OPSET) {
    throw new UnsupportedModelError(
      `Gradients need ONNX opset ${OLDEST_OPSET} or later, the model imports ${graph.opset}. Convert it with onnx.version_converter.`,
    );
  }
  const tape = createTape({ ...problem, prefix });
  for (const name of wanted) tape.activate(name);
  for (const node of graph.nodes) tape.spread(node);
  for (const { value, cotangent = `grad:${value}` } of outputs) {
    const { dims, dataType } = tape.factOf(value);
    tape.receive(value, { name: cotangent, dims, dataType: gradientType(dataType) });
  }
  for (const node of graph.nodes.toReversed()) tape.differentiate(node);
  const gradients = nameGradients(tape, wanted);
  const { nodes, initializers } = tape.o.emitter.finish([...gradients.values()]);
  const domains = [...new Set(nodes.map(({ domain }) => domain))].filter((domain) => domain !== '');
  return { nodes, initializers, gradients, domains };
}

/** A copy where two wanted values share one cotangent, or where it is an incoming one. */
function nameGradients({ o, take }: Tape, wanted: readonly string[]): Map<string, string> {
  const used = new Set<string>();
  return new Map(
    [...new Set(wanted)].map((name) => {
      const sum = take(name);
      if (sum === undefined) {
        throw new OptionError(
          `Value "${name}" has no gradient: no chain of differentiable nodes leads from it to an output with a cotangent. Ask for a value that the outputs depend on.`,
        );
      }
      const needsCopy = o.emitter.factOf(sum.name) === undefined || used.has(sum.name);
      const { name: result } = needsCopy ? o.emitter.node('Identity', [sum], sum) : sum;
      used.add(result);
      return [name, result];
    }),
  );
}
