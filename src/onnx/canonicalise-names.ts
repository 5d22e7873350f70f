import { create } from '@bufbuild/protobuf';
import { GraphProtoSchema, type ModelProto, ModelProtoSchema, type TypeProto, type ValueInfoProto } from 'onnx-buf';
import { subgraphsOf } from './graph-index.js';

/** A graph with canonical names, so that graphs that differ only in names are equal. */
export interface CanonicalGraph {
  readonly proto: ModelProto;
  /** The new name of every value. */
  readonly nameOf: ReadonlyMap<string, string>;
}

/** Renames values, nodes and symbolic dims by their order of appearance. @returns undefined for a graph with subgraphs. */
export function canonicaliseNames(model: ModelProto): CanonicalGraph | undefined {
  const graph = model.graph!;
  if (graph.node.some((node) => subgraphsOf(node).length > 0)) return undefined;
  const values = new Map<string, string>();
  const dims = new Map<string, string>();
  const value = (name: string) => (name === '' ? '' : nextName(values, name, 'v'));
  const info = (declared: ValueInfoProto): ValueInfoProto => ({
    ...declared,
    name: value(declared.name),
    docString: '',
    ...(declared.type && { type: withDims(declared.type, (name) => nextName(dims, name, 'd')) }),
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

function nextName(names: Map<string, string>, name: string, prefix: string): string {
  const renamed = names.get(name) ?? `${prefix}${names.size}`;
  names.set(name, renamed);
  return renamed;
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
