/** Shape of a product `left · rightᵀ`: `[rows, inner] · [columns, inner]ᵀ = [rows, columns]`. */
export interface ProductShape {
  readonly rows: number;
  readonly columns: number;
  readonly inner: number;
}

/** Entries of a matrix. */
export type Entries = Float32Array | Float64Array;

/**
 * Port for `left · rightᵀ` on dense row-major matrices, the only product that factorisations use, in the precision of
 * its operands. The result is a new `[rows, columns]` array.
 */
export type MultiplyTransposed = <Matrix extends Entries>(
  left: Matrix,
  right: Matrix,
  shape: ProductShape,
) => Matrix | Promise<Matrix>;

/** `left · rightᵀ` in plain loops, about 4 GFLOP/s on one core; sums are in double precision. @see MultiplyTransposed */
export function multiplyTransposed<Matrix extends Entries>(left: Matrix, right: Matrix, shape: ProductShape): Matrix {
  if (left instanceof Float64Array && right instanceof Float64Array)
    return multiplyDoubles(left, right, shape) as Matrix;
  // A single array type keeps the loops monomorphic.
  return new Float32Array(multiplyDoubles(new Float64Array(left), new Float64Array(right), shape)) as Matrix;
}

function multiplyDoubles(left: Float64Array, right: Float64Array, shape: ProductShape): Float64Array {
  const { rows, columns, inner } = shape;
  const product = new Float64Array(rows * columns);
  const tiledRows = rows - (rows % 4);
  const tiledColumns = columns - (columns % 2);
  // Eight running sums fit the registers: each element loaded is used twice or four times before it is dropped.
  for (let row = 0; row < tiledRows; row += 4) {
    const a0 = row * inner;
    const a1 = a0 + inner;
    const a2 = a1 + inner;
    const a3 = a2 + inner;
    for (let column = 0; column < tiledColumns; column += 2) {
      const b0 = column * inner;
      const b1 = b0 + inner;
      let s00 = 0;
      let s01 = 0;
      let s10 = 0;
      let s11 = 0;
      let s20 = 0;
      let s21 = 0;
      let s30 = 0;
      let s31 = 0;
      for (let i = 0; i < inner; i++) {
        const x = right[b0 + i]!;
        const y = right[b1 + i]!;
        const p = left[a0 + i]!;
        const q = left[a1 + i]!;
        const r = left[a2 + i]!;
        const s = left[a3 + i]!;
        s00 += p * x;
        s01 += p * y;
        s10 += q * x;
        s11 += q * y;
        s20 += r * x;
        s21 += r * y;
        s30 += s * x;
        s31 += s * y;
      }
      const at = row * columns + column;
      product[at] = s00;
      product[at + 1] = s01;
      product[at + columns] = s10;
      product[at + columns + 1] = s11;
      product[at + 2 * columns] = s20;
      product[at + 2 * columns + 1] = s21;
      product[at + 3 * columns] = s30;
      product[at + 3 * columns + 1] = s31;
    }
    if (tiledColumns === columns) continue;
    const b0 = tiledColumns * inner;
    let s0 = 0;
    let s1 = 0;
    let s2 = 0;
    let s3 = 0;
    for (let i = 0; i < inner; i++) {
      const x = right[b0 + i]!;
      s0 += left[a0 + i]! * x;
      s1 += left[a1 + i]! * x;
      s2 += left[a2 + i]! * x;
      s3 += left[a3 + i]! * x;
    }
    const at = row * columns + tiledColumns;
    product[at] = s0;
    product[at + columns] = s1;
    product[at + 2 * columns] = s2;
    product[at + 3 * columns] = s3;
  }
  for (let row = tiledRows; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      product[row * columns + column] = dot(left, row * inner, right, column * inner, inner);
    }
  }
  return product;
}

function dot(left: Float64Array, leftStart: number, right: Float64Array, rightStart: number, length: number): number {
  let sum = 0;
  for (let i = 0; i < length; i++) sum += left[leftStart + i]! * right[rightStart + i]!;
  return sum;
}
