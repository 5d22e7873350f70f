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

/** A weight that only products along one axis and lookups of token embeddings read. */
export interface QuantisableWeight {
  /** Its initializer. */
  readonly name: string;
  /** Axis that the products sum over; axis of the channels for a table that is only looked up. */
  readonly inputAxis: 0 | 1;
  /** N. */
  readonly outCount: number;
  /** K. */
  readonly inCount: number;
  readonly products: readonly Product[];
  /** Results of lookups by token ids. */
  readonly lookups: readonly string[];
}

/** Weights with fewer outputs are routers or gates: quantisation would harm them and save hardly any bytes. */
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
      const uses = found.get(name) ?? { products: [], lookups: [], axes: new Set(), hasOtherReader: false };
      found.set(name, uses);
      if (embeddings.has(at) && node.opType === 'Gather' && node.input.indexOf(name) === 0)
        uses.lookups.push(node.output[0]!);
      else collectProducts(node, name, 0);
      function collectProducts(reader: NodeProto, value: string, transposeCount: number): void {
        const transposed = transposedBy(reader, value);
        if (transposed !== undefined) {
          const result = reader.output[0]!;
          if (index.outputs.has(result)) uses.hasOtherReader = true;
          for (const next of index.consumersOf.get(result) ?? [])
            collectProducts(index.nodes[next]!, result, transposeCount + transposed);
          return;
        }
        const axis = productAxis(reader, value);
        if (axis === undefined) uses.hasOtherReader = true;
        else {
          uses.axes.add(((axis + transposeCount) % 2) as 0 | 1);
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
  hasOtherReader: boolean;
}

function describe(
  model: OnnxModel,
  name: string,
  { products, lookups, axes, hasOtherReader }: Uses,
): QuantisableWeight | undefined {
  if (lookups.length > 0) axes.add(1);
  const [inputAxis] = axes;
  if (
    hasOtherReader ||
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

/** Number of transposes of a node: 0 or 1; undefined for other nodes. */
function transposedBy(node: NodeProto, value: string): 0 | 1 | undefined {
  if (node.input[0] !== value) return undefined;
  if (node.opType === 'Identity') return 0;
  return isTranspose(node) ? 1 : undefined;
}

/** Whether a node transposes a matrix. */
export const isTranspose = (node: NodeProto): boolean =>
  node.opType === 'Transpose' && (intsAttribute(node, 'perm') ?? [1, 0]).join() === '1,0';

/** Axis of `value` that a product sums over; undefined unless the node is a plain product with `value` as right operand. */
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
