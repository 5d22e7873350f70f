import { create } from '@bufbuild/protobuf';
import {
  GraphProtoSchema,
  type ModelProto,
  ModelProtoSchema,
  type NodeProto,
  type TypeProto,
  type ValueInfoProto,
} from 'onnx-buf';

/** A graph with canonical names, so that graphs that differ only in names are equal. */
export interface CanonicalGraph {
  readonly proto: ModelProto;
  /** The new name of every value. */
  readonly nameOf: ReadonlyMap<string, string>;
}

/** Renames values, nodes and symbolic dims by their order of appearance. @returns undefined for a graph with graphs inside. */
export function canonicaliseNames(model: ModelProto): CanonicalGraph | undefined {
  const graph = model.graph!;
  if (graph.node.some(hasGraphs)) return undefined;
  const values = new Map<string, string>();
  const dims = new Map<string, string>();
  const value = (name: string) => (name === '' ? '' : placeOf(values, name, 'v'));
  const info = (declared: ValueInfoProto): ValueInfoProto => ({
    ...declared,
    name: value(declared.name),
    docString: '',
    ...(declared.type && { type: withDims(declared.type, (name) => placeOf(dims, name, 'd')) }),
  });
  const renamed = create(GraphProtoSchema, {
    name: graph.name,
    input: graph.input.map(info),
    initializer: graph.initializer.map((tensor) => ({ ...tensor, name: value(tensor.name), docString: '' })),
    node: graph.node.map((node, at) => ({
      ...node,
      name: `n${at}`,
      input: node.input.map(value),
      output: node.output.map(value),
      docString: '',
      metadataProps: [],
    })),
    output: graph.output.map(info),
  });
  return { proto: Object.assign(create(ModelProtoSchema), model, { graph: renamed }), nameOf: values };
}

const hasGraphs = ({ attribute }: NodeProto): boolean =>
  attribute.some(({ g, graphs }) => g !== undefined || graphs.length > 0);

function placeOf(places: Map<string, string>, name: string, prefix: string): string {
  const known = places.get(name) ?? `${prefix}${places.size}`;
  places.set(name, known);
  return known;
}

/** A type with renamed symbolic dims. */
function withDims(type: TypeProto, rename: (name: string) => string): TypeProto {
  if (type.value.case !== 'tensorType' || type.value.value.shape === undefined) return type;
  const tensor = type.value.value;
  const dim = tensor.shape!.dim.map((one) =>
    one.value.case === 'dimParam' ? { ...one, value: { ...one.value, value: rename(one.value.value) } } : one,
  );
  return { ...type, value: { case: 'tensorType', value: { ...tensor, shape: { ...tensor.shape!, dim } } } };
}
