import { create, toBinary } from '@bufbuild/protobuf';
import {
  AttributeProto_AttributeType,
  AttributeProtoSchema,
  GraphProtoSchema,
  ModelProtoSchema,
  type NodeProto,
  OperatorSetIdProtoSchema,
  type TensorProto,
  type ValueInfoProto,
  ValueInfoProtoSchema,
} from 'onnx-buf';
import { createRandom } from '../../src/linalg/random.js';
import {
  makeFloatInitializer,
  makeInitializer,
  makeInt64Initializer,
  makeNode,
  makeValueInfo,
  type NodeSpec,
} from '../../src/onnx/build.js';

type Attributes = NonNullable<NodeSpec['attributes']>;

/** Builds a graph op by op; calls return the names of their output values. */
export interface GraphBuilder {
  op(op: string, inputs: readonly string[], attributes?: Attributes, domain?: string): string;
  ops(
    op: string,
    inputs: readonly string[],
    outputs: number | readonly string[],
    attributes?: Attributes,
    domain?: string,
  ): string[];
  /** The output of an If with two branches; weights are outside of both. */
  choose(condition: string, branches: Readonly<Record<'then' | 'else', () => string>>): string;
  /** A node whose one output has a given name. */
  named(output: string, op: string, inputs: readonly string[], attributes?: Attributes): string;
  /** Random numbers, normal-ish with the given spread, about `mean`. */
  weight(dims: readonly number[], spread?: number, mean?: number): string;
  /** Random bytes, such as packed weights. */
  codes(dims: readonly number[]): string;
  floats(dims: readonly number[], values: readonly number[]): string;
  scalar(value: number): string;
  ints(...values: readonly number[]): string;
  intScalar(value: number): string;
  input(name: string, dataType: number, dims: readonly (number | string)[]): string;
  output(name: string, dataType: number, dims: readonly (number | string)[]): void;
  /** The finished model. */
  bytes(): Uint8Array;
}

export function createGraphBuilder({ opset = 17, seed = 1 }: { opset?: number; seed?: number } = {}): GraphBuilder {
  const random = createRandom(seed);
  const graphs: NodeProto[][] = [[]];
  const initializers: TensorProto[] = [];
  const inputs: ValueInfoProto[] = [];
  const outputs: ValueInfoProto[] = [];
  const fresh = (base: string): string => [base, ...graphs.map((nodes) => nodes.length), initializers.length].join('_');
  const keep = (tensor: TensorProto): string => {
    initializers.push(tensor);
    return tensor.name;
  };
  const ops: GraphBuilder['ops'] = (op, given, wanted, attributes = {}, domain = '') => {
    const base = fresh(op);
    const names = typeof wanted === 'number' ? Array.from({ length: wanted }, (_, at) => `${base}/${at}`) : [...wanted];
    graphs.at(-1)!.push(makeNode({ op, domain, name: base, inputs: given, outputs: names, attributes }));
    return names;
  };
  return {
    ops,
    op(op, given, attributes = {}, domain = '') {
      const output = fresh(op);
      graphs
        .at(-1)!
        .push(makeNode({ op, domain, name: `node/${output}`, inputs: given, outputs: [output], attributes }));
      return output;
    },
    choose(condition, branches) {
      const output = fresh('If');
      const attribute = Object.entries(branches).map(([branch, write]) => {
        graphs.push([]);
        const made = write();
        const graph = create(GraphProtoSchema, {
          name: `${output}/${branch}`,
          node: graphs.pop()!,
          output: [create(ValueInfoProtoSchema, { name: made })],
        });
        const type = AttributeProto_AttributeType.GRAPH;
        return create(AttributeProtoSchema, { name: `${branch}_branch`, type, g: graph });
      });
      const node = makeNode({ op: 'If', name: `node/${output}`, inputs: [condition], outputs: [output] });
      graphs.at(-1)!.push(Object.assign(node, { attribute }));
      return output;
    },
    named: (output, op, given, attributes) => ops(op, given, [output], attributes)[0]!,
    weight: (dims, spread = 1 / Math.sqrt(dims[0] ?? 1), mean = 0) =>
      keep(
        makeFloatInitializer(
          fresh('weight'),
          dims,
          Array.from(
            { length: dims.reduce((product, dim) => product * dim, 1) },
            () => mean + spread * 2 * (random() + random() + random() - 1.5),
          ),
        ),
      ),
    codes: (dims) => {
      const values = Uint8Array.from({ length: dims.reduce((product, dim) => product * dim, 1) }, () => random() * 256);
      return keep(makeInitializer(fresh('codes'), 2, dims, values));
    },
    floats: (dims, values) => keep(makeFloatInitializer(fresh('floats'), dims, values)),
    scalar: (value) => keep(makeFloatInitializer(fresh('scalar'), [], [value])),
    ints: (...values) => keep(makeInt64Initializer(fresh('ints'), values)),
    intScalar: (value) =>
      keep(makeInitializer(fresh('int'), 7, [], new Uint8Array(BigInt64Array.of(BigInt(value)).buffer))),
    input(name, dataType, dims) {
      inputs.push(makeValueInfo(name, dataType, dims));
      return name;
    },
    output(name, dataType, dims) {
      outputs.push(makeValueInfo(name, dataType, dims));
    },
    bytes: () =>
      toBinary(
        ModelProtoSchema,
        create(ModelProtoSchema, {
          irVersion: 8n,
          opsetImport: [
            create(OperatorSetIdProtoSchema, { domain: '', version: BigInt(opset) }),
            create(OperatorSetIdProtoSchema, { domain: 'com.microsoft', version: 1n }),
          ],
          graph: create(GraphProtoSchema, {
            name: 'decoder',
            node: graphs[0]!,
            initializer: initializers,
            input: inputs,
            output: outputs,
          }),
        }),
      ),
  };
}
