import { floatAttribute, intAttribute } from '../graph/attributes.js';
import type { MatMulOptions } from './tensor-ops.js';
import { elementCount, type Value } from './value.js';
import { type RuleContext, unsupported, type VjpRule } from './vjp-rule.js';

/** Gradients of matrix products. With y = alpha A B: dA = alpha g B^T, dB = alpha A^T g; a transposed factor swaps sides. */
export const LINEAR_RULES = {
  /** y = A B, batched and broadcast as NumPy does. */
  MatMul: (c) => productRule(c, {}),
  /** y = alpha A' B', each factor transposed or not. */
  'com.microsoft.FusedMatMul': (c) => {
    if (intAttribute(c.node, 'transBatchA', 0) || intAttribute(c.node, 'transBatchB', 0)) {
      throw unsupported(c.node, 'it transposes batch axes (transBatchA or transBatchB).');
    }
    return productRule(c, readOptions(c));
  },
  /** y = alpha A' B' + beta C: dC = beta g. */
  Gemm: (c) => {
    const beta = floatAttribute(c.node, 'beta', 1);
    const dC = c.wants(2) ? (beta === 1 ? c.g : c.o.mul(c.g, beta)) : undefined;
    return [...productRule(c, readOptions(c)), dC];
  },
  /** y = contraction of the operands: each operand's gradient is the contraction of g with the other operands. */
  Einsum: (c) => {
    const { terms, result } = parseEquation(c);
    return terms.map((term, at) => (c.wants(at) ? contract(c, { terms, result, term, at }) : undefined));
  },
} as const satisfies Record<string, VjpRule>;

function readOptions({ node }: RuleContext): MatMulOptions {
  return {
    transA: intAttribute(node, 'transA', 0) === 1,
    transB: intAttribute(node, 'transB', 0) === 1,
    alpha: floatAttribute(node, 'alpha', 1),
  };
}

function productRule(c: RuleContext, options: MatMulOptions): (Value | undefined)[] {
  const [aDims, bDims] = [c.input(0).dims, c.input(1).dims];
  // A vector is a row on the left and a column on the right; the missing axis of y comes back as 1.
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

/** Takes the axis that stood in for a vector's missing one away again, batch axes left for the driver to sum. */
function dropVectorAxis({ o }: RuleContext, gradient: Value, dims: readonly number[]): Value {
  return dims.length === 1
    ? o.reshape(gradient, [...gradient.dims.slice(0, -2), elementCount(gradient.dims.slice(-2))])
    : gradient;
}

interface LeftProblem {
  readonly g: Value;
  readonly b: Value;
  readonly options: MatMulOptions;
}

function leftGradient({ o }: RuleContext, { g, b, options }: LeftProblem): Value {
  const { transA = false, transB = false, alpha = 1 } = options;
  return transA ? o.matMul(b, g, { transA: transB, transB: true, alpha }) : o.matMul(g, b, { transB: !transB, alpha });
}

function rightGradient({ o }: RuleContext, { g, a, b, options }: LeftProblem & { readonly a: Value }): Value {
  const { transA = false, transB = false, alpha = 1 } = options;
  // One product over all tokens instead of one per batch entry and a sum.
  const flat = b.dims.length === 2 && !transA;
  const left = flat ? o.reshape(a, mergeRows(a.dims)) : a;
  const right = flat ? o.reshape(g, mergeRows(g.dims)) : g;
  return transB
    ? o.matMul(right, left, { transA: true, transB: transA, alpha })
    : o.matMul(left, right, { transA: !transA, alpha });
}

function mergeRows(dims: readonly number[]): number[] {
  return [elementCount(dims.slice(0, -1)), ...dims.slice(-1)];
}

interface Contraction {
  readonly terms: readonly string[];
  readonly result: string;
}

function parseEquation(c: RuleContext): Contraction {
  const bytes = c.node.attribute.find(({ name }) => name === 'equation')?.s;
  const [left = '', right] = new TextDecoder().decode(bytes).replaceAll(' ', '').split('->');
  const terms = left.split(',');
  const letters = [...new Set(left.replaceAll(',', ''))].sort();
  const result = right ?? letters.filter((letter) => left.split(letter).length === 2).join('');
  if (left.includes('.') || terms.some((term) => new Set(term).size < term.length)) {
    throw unsupported(c.node, `its equation "${left}->${result}" has an ellipsis or a diagonal.`);
  }
  return { terms, result };
}

/** Letters of `term` that no other operand and not the result has were summed alone: their gradient is constant along them. */
function contract(c: RuleContext, { terms, result, term, at }: Contraction & { term: string; at: number }): Value {
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
