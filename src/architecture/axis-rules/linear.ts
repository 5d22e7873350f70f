import type { NodeProto } from 'onnx-buf';
import { findAttribute, intAttribute } from '../../graph/attributes.js';
import { type AxisRule, arrivedAt, type Finding, type RuleSite, TraceStop } from './axis-rule.js';

/** A product Y = A B with optional transpositions of the last two axes, as ports name it. */
interface Product {
  readonly a: string;
  readonly b: string;
  readonly y: string;
  readonly transposeA: boolean;
  readonly transposeB: boolean;
}

const readProduct = (node: NodeProto): Product => ({
  a: node.input[0] ?? '',
  b: node.input[1] ?? '',
  y: node.output[0] ?? '',
  transposeA: intAttribute(node, 'transA', 0) !== 0,
  transposeB: intAttribute(node, 'transB', 0) !== 0,
});

/** MatMul and FusedMatMul: rows, columns and batch axes carry over; a contracted axis needs a weight on the other side. */
export const matMul: AxisRule = (site) => {
  if (intAttribute(site.node, 'transBatchA', 0) !== 0 || intAttribute(site.node, 'transBatchB', 0) !== 0) {
    throw new TraceStop('batch axes are transposed inside the product');
  }
  return { findings: productFindings(site, readProduct(site.node)) };
};

/** Gemm: a product with a third operand added. */
export const gemm: AxisRule = (site) => {
  const product = readProduct(site.node);
  const c = site.node.input[2] ?? '';
  const { axis, codes } = site.label;
  if (site.side === 'input' && site.slot === 2) {
    const rank = site.dims(c).length;
    const y = { value: product.y, label: { axis: axis + 2 - rank, codes } };
    return { findings: [y] };
  }
  const findings = productFindings(site, product);
  const column =
    findings.find(({ value }) => value === product.y)?.label ?? (site.side === 'output' ? site.label : undefined);
  if (c === '' || column === undefined) return { findings };
  const dims = site.dims(c);
  const there = column.axis + dims.length - 2;
  const biased = there >= 0 && dims[there] === codes.length && dims[there] !== 1;
  return { findings: biased ? [...findings, { value: c, label: { axis: there, codes } }] : findings };
};

/** Einsum: an axis goes wherever its letter does; a letter that is summed away needs a weight on the other side. */
export const einsum: AxisRule = (site) => {
  const equation = new TextDecoder().decode(findAttribute(site.node, 'equation')?.s).replaceAll(' ', '');
  const [left = '', result] = equation.split('->');
  if (result === undefined || equation.includes('.'))
    throw new TraceStop(`the equation "${equation}" is not spelled out`);
  const terms = left.split(',');
  const letter = (site.side === 'output' ? result : terms[site.slot])?.[site.label.axis];
  if (letter === undefined) throw new TraceStop(`the equation "${equation}" does not fit its operands`);
  const { codes } = site.label;
  const from = arrivedAt(site);
  const places = [
    ...terms.map((term, slot) => ({ value: site.node.input[slot] ?? '', term })),
    { value: site.node.output[0] ?? '', term: result },
  ].filter(({ value, term }) => value !== from && term.includes(letter));
  if (!result.includes(letter) && !site.isConstant(from) && !places.every(({ value }) => site.isConstant(value))) {
    throw new TraceStop('channels are summed against another activation');
  }
  return { findings: places.map(({ value, term }) => ({ value, label: { axis: term.indexOf(letter), codes } })) };
};

function productFindings(site: RuleSite, product: Product): Finding[] {
  const { a, b, y, transposeA, transposeB } = product;
  const [dimsA, dimsB, dimsY] = [site.dims(a), site.dims(b), site.dims(y)];
  if (dimsA.length < 2 || dimsB.length < 2) throw new TraceStop('a product with a vector');
  const { codes } = site.label;
  const arrived = site.side === 'output' ? y : site.slot === 0 ? a : b;
  const rank = (site.side === 'output' ? dimsY : site.slot === 0 ? dimsA : dimsB).length;
  const fromEnd = rank - site.label.axis;
  const row = { a: transposeA ? 1 : 2, b: transposeB ? 1 : 2 };
  const column = { a: transposeA ? 2 : 1, b: transposeB ? 2 : 1 };
  const at = (value: string, dims: readonly number[], end: number): Finding[] => {
    const axis = dims.length - end;
    return axis >= 0 && dims[axis] === codes.length ? [{ value, label: { axis, codes } }] : [];
  };
  if (fromEnd > 2) {
    const others = [
      { value: a, dims: dimsA },
      { value: b, dims: dimsB },
      { value: y, dims: dimsY },
    ].filter(({ value }) => value !== arrived);
    return others.flatMap(({ value, dims }) => (dims[dims.length - fromEnd] === 1 ? [] : at(value, dims, fromEnd)));
  }
  if (arrived === y) return fromEnd === 1 ? at(b, dimsB, column.b) : at(a, dimsA, row.a);
  const contracted = arrived === a ? fromEnd === column.a : fromEnd === row.b;
  if (!contracted) return at(y, dimsY, arrived === a ? 2 : 1);
  const other = arrived === a ? b : a;
  if (!site.isConstant(other) && !site.isConstant(arrived))
    throw new TraceStop('channels are summed against another activation');
  return arrived === a ? at(b, dimsB, row.b) : at(a, dimsA, column.a);
}
