import type { NodeProto } from 'onnx-buf';
import { floatAttribute, intAttribute, intsAttribute } from '../onnx/attributes.js';
import { isFloatType } from '../onnx/float-encoding.js';
import { indexGraph, nodeLabel } from '../onnx/graph-index.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { findEmbeddings } from '../onnx/partition.js';

/** A product of activations and a weight. */
export interface Product {
  /** Its node, for messages. */
  readonly node: string;
  /** Value with the activations, input channels on its last axis. */
  readonly input: string;
  readonly result: string;
}

/** A weight that nothing reads but products along one axis, and lookups of token embeddings. */
export interface QuantisableWeight {
  /** Its initializer. */
  readonly name: string;
  /** Which of its two axes the products sum over; of a table that is only looked up, the axis of the channels. */
  readonly inputAxis: 0 | 1;
  /** N. */
  readonly outCount: number;
  /** K. */
  readonly inCount: number;
  readonly products: readonly Product[];
  /** Results of nodes that look rows up by token ids. */
  readonly lookups: readonly string[];
}

/** Maps with fewer outputs are routers or gates: a few bits would harm them, and save next to no bytes. */
const MIN_OUTPUTS = 16;

/** Finds the weights that can be quantised, in the order in which the graph reads them. */
export function findWeights(model: OnnxModel, tokenInput: string): QuantisableWeight[] {
  const index = indexGraph(model.proto.graph!);
  const embeddings = new Set(findEmbeddings(index, tokenInput));
  const found = new Map<string, Uses>();
  const isWeight = (name: string): boolean => {
    const handle = model.weights.get(name);
    return handle?.dims.length === 2 && isFloatType(handle.dataType);
  };
  index.nodes.forEach((node, at) => {
    for (const name of new Set(node.input.filter(isWeight))) {
      const uses = found.get(name) ?? { products: [], lookups: [], axes: new Set(), isElse: false };
      found.set(name, uses);
      if (embeddings.has(at) && node.opType === 'Gather' && node.input.indexOf(name) === 0)
        uses.lookups.push(node.output[0]!);
      else collectProducts(node, name, 0);
      function collectProducts(reader: NodeProto, value: string, turns: number): void {
        const transposed = transposedBy(reader, value);
        if (transposed !== undefined) {
          const result = reader.output[0]!;
          if (index.outputs.has(result)) uses.isElse = true;
          for (const next of index.consumersOf.get(result) ?? [])
            collectProducts(index.nodes[next]!, result, turns + transposed);
          return;
        }
        const axis = productAxis(reader, value);
        if (axis === undefined) uses.isElse = true;
        else {
          uses.axes.add(((axis + turns) % 2) as 0 | 1);
          uses.products.push({ node: nodeLabel(reader), input: reader.input[0]!, result: reader.output[0]! });
        }
      }
    }
  });
  return [...found].flatMap(([name, uses]) => describe(model, name, uses) ?? []);
}

/** Readers of a weight. */
interface Uses {
  readonly products: Product[];
  readonly lookups: string[];
  readonly axes: Set<0 | 1>;
  /** Another node reads it too. */
  isElse: boolean;
}

function describe(
  model: OnnxModel,
  name: string,
  { products, lookups, axes, isElse }: Uses,
): QuantisableWeight | undefined {
  if (lookups.length > 0) axes.add(1);
  const [inputAxis] = axes;
  if (
    isElse ||
    inputAxis === undefined ||
    axes.size > 1 ||
    model.proto.graph!.output.some((output) => output.name === name)
  )
    return undefined;
  const { dims } = model.weights.get(name)!;
  const [inCount, outCount] = [dims[inputAxis]!, dims[1 - inputAxis]!];
  return outCount < MIN_OUTPUTS || inCount === 0
    ? undefined
    : { name, inputAxis, outCount, inCount, products, lookups };
}

/** How often a node transposes its matrix: 0 or 1; undefined for nodes that do something else. */
function transposedBy(node: NodeProto, value: string): 0 | 1 | undefined {
  if (node.input[0] !== value) return undefined;
  if (node.opType === 'Identity') return 0;
  return isTranspose(node) ? 1 : undefined;
}

/** Whether a node transposes a matrix. */
export const isTranspose = (node: NodeProto): boolean =>
  node.opType === 'Transpose' && (intsAttribute(node, 'perm') ?? [1, 0]).join() === '1,0';

/** The axis of the operand `value` that a product sums over; undefined for nodes that are not a plain product with it on the right. */
function productAxis(node: NodeProto, value: string): 0 | 1 | undefined {
  if (node.domain !== '' || node.input[1] !== value || node.input[0] === value || node.input[2] === value)
    return undefined;
  if (node.opType === 'MatMul') return 0;
  const isPlain =
    node.opType === 'Gemm' &&
    intAttribute(node, 'transA', 0) === 0 &&
    floatAttribute(node, 'alpha', 1) === 1 &&
    floatAttribute(node, 'beta', 1) === 1;
  return isPlain ? (intAttribute(node, 'transB', 0) === 1 ? 1 : 0) : undefined;
}
