import type { NodeProto } from 'onnx-buf';
import { floatAttribute, intAttribute, textAttribute } from '../onnx/attributes.js';
import type { MatMulOptions } from '../onnx/tensor-ops.js';
import { elementCount, type Value } from '../onnx/value.js';
import { type AxisRule, type Finding, labelledValue, type RuleSite, TraceStop, toOtherSide } from './axis-rule.js';
import { type RuleContext, unsupported } from './gradient-rule.js';
import { byOpenRule, type Family, PLAIN } from './operator.js';

/** Of a product y = alpha A B, each factor transposed or not. */
const readOptions = (node: NodeProto): Required<MatMulOptions> => ({
  transA: intAttribute(node, 'transA', 0) === 1,
  transB: intAttribute(node, 'transB', 0) === 1,
  alpha: floatAttribute(node, 'alpha', 1),
});

/** MatMul and FusedMatMul: rows, columns and batch axes carry over; a contracted axis needs a weight on the other side. */
const matMulAxes: AxisRule = (site) => {
  if (intAttribute(site.node, 'transBatchA', 0) !== 0 || intAttribute(site.node, 'transBatchB', 0) !== 0) {
    throw new TraceStop('batch axes are transposed inside the product');
  }
  return { findings: productFindings(site) };
};

/** Gemm: a product with a third operand added. */
const gemmAxes: AxisRule = (site) => {
  const [, , c = ''] = site.node.input;
  const { axis, unitIds } = site.label;
  if (site.side === 'input' && site.slot === 2) return toOtherSide(site, axis + 2 - site.dims(c).length);
  const findings = productFindings(site);
  const column =
    site.side === 'output' ? site.label : findings.find(({ value }) => value === site.node.output[0])?.label;
  if (c === '' || column === undefined) return { findings };
  const dims = site.dims(c);
  const there = column.axis + dims.length - 2;
  const biased = there >= 0 && dims[there] === unitIds.length && dims[there] !== 1;
  return { findings: biased ? [...findings, { value: c, label: { axis: there, unitIds } }] : findings };
};

/** Einsum: an axis follows its letter; a summed letter needs a weight on the other side. */
const einsumAxes: AxisRule = (site) => {
  const { equation, terms, result } = readEquation(site.node);
  if (equation.includes('.')) throw new TraceStop(`the equation "${equation}" has an ellipsis`);
  const letter = (site.side === 'output' ? result : terms[site.slot])?.[site.label.axis];
  if (letter === undefined) throw new TraceStop(`the equation "${equation}" does not fit its operands`);
  const { unitIds } = site.label;
  const from = labelledValue(site);
  const places = [
    ...terms.map((term, slot) => ({ value: site.node.input[slot] ?? '', term })),
    { value: site.node.output[0] ?? '', term: result },
  ].filter(({ value, term }) => value !== from && term.includes(letter));
  if (!result.includes(letter) && !site.isConstant(from) && !places.every(({ value }) => site.isConstant(value))) {
    throw new TraceStop('channels are summed against another activation');
  }
  return { findings: places.map(({ value, term }) => ({ value, label: { axis: term.indexOf(letter), unitIds } })) };
};

/** Either operand of a product may be a weight. */
const FACTORS = { 0: 'matrix', 1: 'matrix' } as const;

/** Matrix products. With y = alpha A B: dA = alpha g B^T, dB = alpha A^T g; a transposed factor swaps sides. */
export const LINEAR = {
  /** y = A B, batched and broadcast as NumPy does. */
  MatMul: { ...PLAIN, axis: matMulAxes, tokens: 'product', gradient: byOpenRule(productRule), parameters: FACTORS },
  /** y = alpha A' B', each factor transposed or not. */
  'com.microsoft.FusedMatMul': {
    ...PLAIN,
    axis: matMulAxes,
    tokens: 'product',
    gradient: (c) => {
      if (intAttribute(c.node, 'transBatchA', 0) || intAttribute(c.node, 'transBatchB', 0)) {
        throw unsupported(c.node, 'it transposes batch axes (transBatchA or transBatchB).');
      }
      return productRule(c);
    },
    parameters: FACTORS,
  },
  /** y = alpha A' B' + beta C: dC = beta g. */
  Gemm: {
    ...PLAIN,
    axis: gemmAxes,
    gradient: (c) => {
      const beta = floatAttribute(c.node, 'beta', 1);
      const dC = c.wants(2) ? (beta === 1 ? c.g : c.o.mul(c.g, beta)) : undefined;
      return [...productRule(c), dC];
    },
    parameters: { ...FACTORS, 2: 'vector' },
  },
  /** y = contraction of the operands: each operand's gradient is the contraction of g with the other operands. */
  Einsum: {
    ...PLAIN,
    axis: einsumAxes,
    tokens: 'product',
    gradient: (c) => {
      const { equation, terms, result } = readEquation(c.node);
      if (equation.includes('.') || terms.some((term) => new Set(term).size < term.length)) {
        throw unsupported(c.node, `its equation "${equation}" has an ellipsis or a diagonal.`);
      }
      return terms.map((_, at) => (c.wants(at) ? contract(c, { terms, result, at }) : undefined));
    },
    parameters: FACTORS,
  },
} as const satisfies Family;

/** Products that are a linear layer where their second operand is a weight. */
export const LINEAR_LAYERS: ReadonlySet<string> = new Set(['MatMul', 'Gemm', 'com.microsoft.FusedMatMul']);

function productFindings(site: RuleSite): Finding[] {
  const { transA, transB } = readOptions(site.node);
  const [a = '', b = ''] = site.node.input;
  const [y = ''] = site.node.output;
  const [dimsA, dimsB, dimsY] = [site.dims(a), site.dims(b), site.dims(y)];
  if (dimsA.length < 2 || dimsB.length < 2) throw new TraceStop('a product with a vector');
  const { unitIds } = site.label;
  const from = site.side === 'output' ? y : site.slot === 0 ? a : b;
  const rank = (site.side === 'output' ? dimsY : site.slot === 0 ? dimsA : dimsB).length;
  const fromEnd = rank - site.label.axis;
  const row = { a: transA ? 1 : 2, b: transB ? 1 : 2 };
  const column = { a: transA ? 2 : 1, b: transB ? 2 : 1 };
  const at = (value: string, dims: readonly number[], end: number): Finding[] => {
    const axis = dims.length - end;
    return axis >= 0 && dims[axis] === unitIds.length ? [{ value, label: { axis, unitIds } }] : [];
  };
  if (fromEnd > 2) {
    const others = [
      { value: a, dims: dimsA },
      { value: b, dims: dimsB },
      { value: y, dims: dimsY },
    ].filter(({ value }) => value !== from);
    return others.flatMap(({ value, dims }) => (dims[dims.length - fromEnd] === 1 ? [] : at(value, dims, fromEnd)));
  }
  if (from === y) return fromEnd === 1 ? at(b, dimsB, column.b) : at(a, dimsA, row.a);
  const contracted = from === a ? fromEnd === column.a : fromEnd === row.b;
  if (!contracted) return at(y, dimsY, from === a ? 2 : 1);
  const other = from === a ? b : a;
  if (!site.isConstant(other) && !site.isConstant(from))
    throw new TraceStop('channels are summed against another activation');
  return from === a ? at(b, dimsB, row.b) : at(a, dimsA, column.a);
}

function productRule(c: RuleContext): (Value | undefined)[] {
  const options = readOptions(c.node);
  const [aDims, bDims] = [c.input(0).dims, c.input(1).dims];
  // A vector is a row on the left and a column on the right; the missing axis of y is restored as 1.
  const a = aDims.length === 1 ? c.o.reshape(c.input(0), [1, ...aDims]) : c.input(0);
  const b = bDims.length === 1 ? c.o.reshape(c.input(1), [...bDims, 1]) : c.input(1);
  const row = aDims.length === 1 ? [1] : c.g.dims.slice(bDims.length === 1 ? -1 : -2).slice(0, 1);
  const column = bDims.length === 1 ? [1] : c.g.dims.slice(-1);
  const batch = c.g.dims.slice(0, c.g.dims.length - (aDims.length === 1 ? 0 : 1) - (bDims.length === 1 ? 0 : 1));
  const g = c.o.reshape(c.g, [...batch, ...row, ...column]);
  return [
    c.wants(0) ? dropVectorAxis(c, leftGradient(c, { g, b, options }), aDims) : undefined,
    c.wants(1) ? dropVectorAxis(c, rightGradient(c, { g, a, b, options }), bDims) : undefined,
  ];
}

/** Removes the axis that was inserted for a vector; batch axes are summed by the driver. */
function dropVectorAxis({ o }: RuleContext, gradient: Value, dims: readonly number[]): Value {
  return dims.length === 1
    ? o.reshape(gradient, [...gradient.dims.slice(0, -2), elementCount(gradient.dims.slice(-2))])
    : gradient;
}

interface LeftProblem {
  readonly g: Value;
  readonly b: Value;
  readonly options: Required<MatMulOptions>;
}

function leftGradient({ o }: RuleContext, { g, b, options }: LeftProblem): Value {
  const { transA, transB, alpha } = options;
  return transA ? o.matMul(b, g, { transA: transB, transB: true, alpha }) : o.matMul(g, b, { transB: !transB, alpha });
}

function rightGradient({ o }: RuleContext, { g, a, b, options }: LeftProblem & { readonly a: Value }): Value {
  const { transA, transB, alpha } = options;
  // One product over all tokens instead of one per batch entry and a sum.
  const flat = b.dims.length === 2 && !transA;
  const left = flat ? o.mergeRows(a) : a;
  const right = flat ? o.mergeRows(g) : g;
  return transB
    ? o.matMul(right, left, { transA: true, transB: transA, alpha })
    : o.matMul(left, right, { transA: !transA, alpha });
}

interface Contraction {
  readonly equation: string;
  readonly terms: readonly string[];
  readonly result: string;
}

/** Without an explicit output it has every letter that occurs once, in alphabetical order. */
function readEquation(node: NodeProto): Contraction {
  const equation = textAttribute(node, 'equation').replaceAll(' ', '');
  const [left = '', right] = equation.split('->');
  const letters = [...new Set(left.replaceAll(',', ''))].sort();
  const result = right ?? letters.filter((letter) => left.split(letter).length === 2).join('');
  return { equation, terms: left.split(','), result };
}

/** Letters that occur only in `term` were summed: the gradient is constant along them. */
function contract(
  c: RuleContext,
  { terms, result, at }: Pick<Contraction, 'terms' | 'result'> & { at: number },
): Value {
  const term = terms[at] ?? '';
  const others = terms.map((letters, index) => ({ letters, index })).filter(({ index }) => index !== at);
  const known = [result, ...others.map(({ letters }) => letters)].join('');
  const target = [...term].filter((letter) => known.includes(letter));
  const x = c.input(at);
  const dimOf = (letter: string): number => x.dims[term.indexOf(letter)] ?? 1;
  const gradient = c.o.emitter.node('Einsum', [c.g, ...others.map(({ index }) => c.input(index))], {
    dims: target.map(dimOf),
    dataType: c.g.dataType,
    attributes: { equation: `${[result, ...others.map(({ letters }) => letters)].join(',')}->${target.join('')}` },
  });
  return c.o.reshape(
    gradient,
    [...term].map((letter) => (known.includes(letter) ? dimOf(letter) : 1)),
  );
}
