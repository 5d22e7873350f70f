import { FLOAT32 } from '../onnx/data-types.js';
import type { TensorOps } from '../onnx/tensor-ops.js';
import type { Value } from '../onnx/value.js';

/** Linear attention over packed heads. Heads of operands with fewer heads are shared by consecutive ones. */
export interface RecurrenceProblem {
  /** `[B, T, Hq Dk]` */
  readonly query: Value;
  /** `[B, T, Hk Dk]` */
  readonly key: Value;
  /** `[B, T, Hv Dv]` */
  readonly value: Value;
  /** Log decay of the state, `[B, T, Hv]`, or of each of its rows, `[B, T, Hv Dk]`. Default: no decay. */
  readonly decay?: Value | undefined;
  /** `[B, T, Hv]` or `[B, T, 1]`: update rate (beta) of the delta rule. Default: values are added. */
  readonly rate?: Value | undefined;
  /** State before the first token, `[B, Hv, Dk, Dv]`. Default: zeros. */
  readonly state?: Value | undefined;
  readonly keySize: number;
  readonly valueSize: number;
  readonly headCount: number;
  readonly scale: number;
}

/** Tokens per chunk. */
const CHUNK = 32;

/** Tokens per chunk with a decay per row, which needs Dk numbers per pair of tokens. */
const CHUNK_BY_ROW = 8;

/**
 * Lowers the recurrence to matrix products, for a window of known length; returns `[B, T, H Dv]`.
 *
 * Token t: S <- e^g S, S <- S + rate k (v - S' k)', y = scale S' q. With G the decays summed from the start of a chunk,
 * u the second term's vector and S the state before the chunk:
 *
 *     u_i = rate_i (v_i - e^(G_i) S' k_i - sum over j < i of e^(G_i - G_j) (k_i k_j) u_j)
 *     y_i = scale (e^(G_i) S' q_i + sum over j <= i of e^(G_i - G_j) (q_i k_j) u_j)
 *
 * @see Yang et al., Gated Delta Networks (arXiv 2412.06464), section 3.3: the chunkwise form
 */
export function recur(o: TensorOps, problem: RecurrenceProblem): Value {
  const { value, keySize, valueSize, headCount, scale } = problem;
  const length = value.dims[1] ?? 1;
  const isByRow = isDecayByRow(problem);
  const size = Math.min(isByRow ? CHUNK_BY_ROW : CHUNK, length);
  const chunks = Math.ceil(length / size);
  const chunked = (x: Value, width: number): Value => splitChunks(o, x, { width, headCount, size, chunks });
  const key = chunked(problem.key, keySize);
  const query = o.mul(chunked(problem.query, keySize), scale);
  const added = chunked(value, valueSize);
  const rate = problem.rate && chunked(problem.rate, 1);
  const sums = problem.decay && o.matMul(triangle(o, size, 1), chunked(problem.decay, isByRow ? keySize : 1));
  const fade = sums && o.exp(sums);
  const faded = (x: Value): Value => (fade === undefined ? x : o.mul(x, fade));
  const last = sums && o.slice(sums, 3, { start: size - 1, end: size });
  const decayedKey = sums && last ? o.mul(key, o.exp(o.sub(last, sums))) : key;
  // One factor for each row of the state, [.., Dk, 1], or for the entire state, [.., 1, 1].
  const stateDecay = last && o.transpose(o.exp(last), [0, 1, 2, 4, 3]);
  const attended = pairs(o, { left: query, right: key, sums, reach: 1 });
  const inverse = rate && invertUnitTriangle(o, o.mul(pairs(o, { left: key, right: key, sums, reach: 0 }), rate), size);
  const solved = inverse && rate ? o.matMul(inverse, o.mul(added, rate)) : added;
  const known = inverse && rate ? o.matMul(inverse, o.mul(faded(key), rate)) : undefined;
  const seen = faded(query);

  let state = startState(o, problem);
  const rows = Array.from({ length: chunks }, (_, at) => {
    const of = (x: Value): Value => o.slice(x, 2, { start: at, end: at + 1 });
    const written = known === undefined ? of(solved) : o.sub(of(solved), o.matMul(of(known), state));
    const row = o.add(o.matMul(of(seen), state), o.matMul(of(attended), written));
    const fadedState = stateDecay === undefined ? state : o.mul(state, of(stateDecay));
    if (at + 1 < chunks) state = o.add(fadedState, o.matMul(of(decayedKey), written, { transA: true }));
    return row;
  });
  const [batch = 1] = value.dims;
  const tokens = o.reshape(o.transpose(o.concat(rows, 2), [0, 2, 3, 1, 4]), [
    batch,
    chunks * size,
    headCount * valueSize,
  ]);
  return o.slice(tokens, 1, { start: 0, end: length });
}

function isDecayByRow({ decay, value, keySize, valueSize }: RecurrenceProblem): boolean {
  const valueHeads = (value.dims[2] ?? 1) / valueSize;
  return decay !== undefined && keySize > 1 && decay.dims[2] === valueHeads * keySize;
}

interface Chunks {
  readonly width: number;
  readonly headCount: number;
  readonly size: number;
  readonly chunks: number;
}

/** `[B, T, h D]` as `[B, H, chunks, size, D]`, with zeros after the last token. */
function splitChunks(o: TensorOps, x: Value, { width, headCount, size, chunks }: Chunks): Value {
  const [batch = 1, length = 1, channels = 1] = x.dims;
  const padded = o.pad(x, 1, { before: 0, after: chunks * size - length });
  const heads = o.transpose(o.reshape(padded, [batch, chunks, size, channels / width, width]), [0, 3, 1, 2, 4]);
  return shareHeads(o, heads, headCount);
}

/** Repeats each head on axis 1 (repeat_interleave) up to the given count. */
function shareHeads(o: TensorOps, x: Value, headCount: number): Value {
  const [batch = 1, heads = 1, ...rest] = x.dims;
  if (heads === headCount) return x;
  const separate = o.reshape(x, [batch, heads, 1, ...rest]);
  return o.reshape(o.expand(separate, [batch, heads, headCount / heads, ...rest]), [batch, headCount, ...rest]);
}

/** `[B, H, 1, Dk, Dv]` */
function startState(o: TensorOps, { state, value, keySize, valueSize, headCount }: RecurrenceProblem): Value {
  const [batch = 1] = value.dims;
  const shape = [batch, headCount, 1, keySize, valueSize];
  return state === undefined ? o.zeros(shape, value.dataType) : o.reshape(shareHeads(o, state, headCount), shape);
}

/** Ones where row minus column is at least `1 - reach`, zeros elsewhere. */
function triangle(o: TensorOps, size: number, reach: 0 | 1): Value {
  const values = Array.from({ length: size * size }, (_, at) => (at % size < Math.floor(at / size) + reach ? 1 : 0));
  return o.emitter.constant(FLOAT32, [size, size], values);
}

interface Pairs {
  readonly left: Value;
  readonly right: Value;
  /** Decays summed from the start of a chunk, `[.., size, 1]` or `[.., size, Dk]`. */
  readonly sums: Value | undefined;
  /** 1: each token with itself and earlier ones; 0: only with earlier ones. */
  readonly reach: 0 | 1;
}

/** Products of pairs of tokens in a chunk, decayed from the earlier to the later: `[.., size, size]`. */
function pairs(o: TensorOps, { left, right, sums, reach }: Pairs): Value {
  const size = left.dims[3] ?? 1;
  const allowed = triangle(o, size, reach);
  if (sums === undefined) return o.mul(o.matMul(left, right, { transB: true }), allowed);
  if (sums.dims[4] === 1) {
    const difference = o.sub(sums, o.transpose(sums, [0, 1, 2, 4, 3]));
    return o.mul(o.matMul(left, right, { transB: true }), decayed(o, difference, allowed));
  }
  const spread = (x: Value, axis: 3 | 4): Value => o.reshape(x, [...x.dims.slice(0, axis), 1, ...x.dims.slice(axis)]);
  const difference = o.sub(spread(sums, 4), spread(sums, 3));
  const weights = decayed(o, difference, o.reshape(allowed, [size, size, 1]));
  return o.sum(o.mul(o.mul(spread(left, 4), spread(right, 3)), weights), [5], false);
}

/** e^x where allowed, 0 elsewhere, since exp(x) may overflow there. */
const decayed = (o: TensorOps, x: Value, allowed: Value): Value =>
  o.mul(o.exp(o.where(o.greater(allowed, 0), x, 0)), allowed);

/**
 * Inverse of I + A, A zero on and above the diagonal, by blocks: that of twice the size is `[X, 0; -Y C X, Y]` for the
 * inverses X and Y of the diagonal's blocks. A series of powers of A would lose all precision where keys repeat.
 */
function invertUnitTriangle(o: TensorOps, lower: Value, size: number): Value {
  const identity = Array.from({ length: size * size }, (_, at) => (at % (size + 1) === 0 ? 1 : 0));
  let inverse = o.emitter.constant(FLOAT32, [size, size], identity);
  for (let block = 1; block < size; block *= 2) {
    const corners = o.mul(lower, cornerMask(o, size, block));
    // The first inverse is the identity.
    const change = block === 1 ? corners : o.matMul(o.matMul(inverse, corners), inverse);
    inverse = o.sub(inverse, change);
  }
  return o.expand(inverse, lower.dims);
}

/** Ones in the lower left block of each pair of neighbouring blocks on the diagonal. */
function cornerMask(o: TensorOps, size: number, block: number): Value {
  const values = Array.from({ length: size * size }, (_, at) => {
    const [row, column] = [Math.floor(at / size), at % size].map((index) => Math.floor(index / block)) as [
      number,
      number,
    ];
    return row % 2 === 1 && column === row - 1 ? 1 : 0;
  });
  return o.emitter.constant(FLOAT32, [size, size], values);
}
