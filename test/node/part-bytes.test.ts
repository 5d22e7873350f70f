import { decodePart, encodePart } from '../../src/node/part-bytes.js';

function roundTrip(part: unknown): unknown {
  const { plain, views } = encodePart(part);
  return decodePart(plain, Buffer.concat(views));
}

const shared = Float32Array.of(1.5, Number.NaN);

it.each([
  ['numbers', [0, -0, 0.1, 1e300, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 5e-324]],
  ['values that JSON lacks', { none: undefined, big: 2n ** 70n, list: [undefined, null] }],
  [
    'maps and sets',
    new Map<unknown, unknown>([
      ['a', new Set([1, [2]])],
      [2, new Map([[{ $: 1 }, -0]])],
    ]),
  ],
  ['texts', ['\ud800', '\u0000', 'é', '"']],
  [
    'keys of any name',
    Object.fromEntries([
      ['$', 'view'],
      ['__proto__', { $: 'undefined' }],
      ['a', 1],
    ]),
  ],
  ['typed arrays', [new Uint8Array(3), Float64Array.of(-0), BigInt64Array.of(-1n), { at: new Int16Array(0) }]],
  ['views of longer arrays', new Uint32Array(8).fill(7).subarray(2, 5)],
])('keeps %s', (_, part) => {
  expect(roundTrip(part)).toStrictEqual(part);
});

it('writes an array that is used twice once, and reads it as one array', () => {
  const part = { a: shared, b: [new Uint8Array(1), shared] };
  expect(encodePart(part).views).toHaveLength(2);
  const back = roundTrip(part) as typeof part;
  expect(back).toStrictEqual(part);
  expect(back.b[1]).toBe(back.a);
});

it.each([() => undefined, new Date(0), new DataView(new ArrayBuffer(1)), Symbol('a'), { in: /x/ }])(
  'refuses %p, which is no plain data',
  (part) => {
    expect(() => encodePart(part)).toThrow(TypeError);
  },
);
