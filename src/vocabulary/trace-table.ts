import type { NodeProto } from 'onnx-buf';
import { UnsupportedModelError } from '../errors.js';
import { intAttribute, intsAttribute } from '../onnx/attributes.js';
import { qualifiedOp } from '../onnx/graph-index.js';
import { elementCount } from '../onnx/value.js';
import { keyOf, type Scope, type ScopedValue } from './graph-scopes.js';
import { constantDims, follow, readConstant, refuseNode, type Tracing } from './vocabulary-trace.js';

/** A value that is computed only from weights, with one row per token along an axis. */
export interface TableValue {
  readonly value: ScopedValue;
  /** Counted from the front. */
  readonly axis: number;
  readonly rows: number;
}

/** Follows a table back to the weights that it is computed from, and records them. @throws UnsupportedModelError */
export async function traceTable(
  tracing: Tracing,
  { value, axis, rows }: TableValue,
  reader: NodeProto,
): Promise<void> {
  const { scopes, model, tables, sized } = tracing;
  const node = scopes.producerOf(value);
  if (node === undefined) {
    const handle = value.scope === scopes.main ? model.weights.get(value.name) : undefined;
    if (handle === undefined) throw refuseNode(reader, `reads its rows from "${value.name}", which is not a weight`);
    const known = tables.get(value.name);
    if (known !== undefined && (known.axis !== axis || known.rows !== rows))
      throw refuseNode(
        reader,
        `reads "${value.name}" as ${rows} rows along axis ${axis}, and another node in another way`,
      );
    const fits = axis === 0 ? elementCount(handle.dims) % rows === 0 : handle.dims[axis] === rows;
    if (!fits) throw refuseNode(reader, `reads ${rows} rows of "${value.name}" of dims [${handle.dims.join(', ')}]`);
    tables.set(value.name, { name: value.name, axis, rows });
    return;
  }
  const rule = RULES[qualifiedOp(node)];
  if (rule === undefined) throw refuseNode(node, 'computes a table of token rows in an unknown way');
  sized.push({ ...value, axis, rows });
  await rule({ tracing, scope: value.scope, node, axis, rows });
}

interface Site {
  readonly tracing: Tracing;
  readonly scope: Scope;
  readonly node: NodeProto;
  readonly axis: number;
  readonly rows: number;
}

const traceInput = ({ tracing, scope, node, rows }: Site, input: number, axis: number): Promise<void> =>
  traceTable(tracing, { value: follow(tracing, scope, node, input), axis, rows }, node);

const RULES: Readonly<Record<string, (site: Site) => Promise<void>>> = {
  Identity: (site) => traceInput(site, 0, site.axis),
  Cast: (site) => traceInput(site, 0, site.axis),
  async Transpose(site) {
    const { tracing, node, scope, axis } = site;
    const dims = await constantDims(tracing, tracing.scopes.resolve(scope, node.input[0] ?? ''));
    const perm = intsAttribute(node, 'perm') ?? dims?.map((_, at) => dims.length - 1 - at) ?? [];
    if (perm[axis] === undefined) throw refuseNode(node, 'transposes a table of unknown rank');
    await traceInput(site, 0, perm[axis]);
  },
  /** Supported where the rows are the first axis before and after. */
  async Reshape(site) {
    const { tracing, node, scope, axis, rows } = site;
    const shape = await readConstant(tracing, tracing.scopes.resolve(scope, node.input[1] ?? ''));
    const dims = await constantDims(tracing, tracing.scopes.resolve(scope, node.input[0] ?? ''));
    if (axis !== 0 || shape === undefined || dims === undefined || elementCount(dims) % rows !== 0)
      throw refuseNode(node, 'reshapes a table of token rows');
    if (shape.values[0] === rows) tracing.literals.push({ node, input: 1, ...shape, place: 0 });
    else if (shape.values[0] !== -1 && !(shape.values[0] === 0 && dims[0] === rows))
      throw refuseNode(node, 'reshapes a table of token rows');
    await traceInput(site, 0, 0);
  },
  async DequantizeLinear(site) {
    const { tracing, node, scope, axis } = site;
    await traceInput(site, 0, axis);
    const rank = (await constantDims(tracing, tracing.scopes.resolve(scope, node.input[0] ?? '')))?.length ?? 2;
    const given = intAttribute(node, 'axis', 1);
    const along = given < 0 ? given + rank : given;
    const isBlocked = intAttribute(node, 'block_size', 0) > 0;
    for (const input of [1, 2]) {
      if ((node.input[input] ?? '') === '') continue;
      const dims = await constantDims(tracing, tracing.scopes.resolve(scope, node.input[input]!));
      if (dims === undefined) throw refuseNode(node, 'has scales that are not weights');
      if (elementCount(dims) === 1) continue;
      if (isBlocked && along === axis) throw refuseNode(node, 'has scales that several token rows share');
      if (isBlocked) await traceInput(site, input, axis);
      else if (along === axis) await traceInput(site, input, 0);
    }
  },
  /** Scaled embeddings. */
  Mul: bySides,
  Add: bySides,
  Div: bySides,
  Sub: bySides,
};

async function bySides(site: Site): Promise<void> {
  const { tracing, node, scope, axis, rows } = site;
  const sides = await Promise.all(node.input.map((name) => constantDims(tracing, tracing.scopes.resolve(scope, name))));
  const rank = Math.max(...sides.map((dims) => dims?.length ?? 0));
  let found = false;
  for (const [input, dims] of sides.entries()) {
    if (dims === undefined) throw refuseNode(node, 'computes a table of token rows from a value that is not a weight');
    const own = axis - (rank - dims.length);
    if (own < 0 || dims[own] !== rows) continue;
    found = true;
    await traceInput(site, input, own);
  }
  if (!found) throw new UnsupportedModelError(`${keyOf({ scope, name: node.output[0]! })} has no ${rows} token rows`);
}
