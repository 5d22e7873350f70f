import { OPEN, type ValueFacts } from '../../src/onnx/value-facts.js';
import { chooseProbes, factsForSize } from '../../src/runtime/analyse-model.js';

const sizes = chooseProbes({ name: 'input_ids', role: 'tokens', dataType: 7, dims: ['batch', 'sequence'] });

/** A size of a third run, extrapolated from that of both probes. */
function extrapolate(numberOf: (size: (typeof sizes)[number]) => number): number {
  const factsOf = (size: (typeof sizes)[number]): ValueFacts =>
    new Map([['value', { dims: [numberOf(size)], dataType: 1 }]]);
  const scaled = factsForSize(
    { facts: { first: factsOf(sizes[0]), second: factsOf(sizes[1]) }, probes: sizes },
    { batchSize: 4, sequenceLength: 32 },
  );
  return scaled.get('value')!.dims[0]!;
}

it.each([
  ['a constant', () => 16, 16],
  ['the batch', ({ batchSize }) => 2 * batchSize, 8],
  ['the window', ({ sequenceLength }) => 3 * sequenceLength, 96],
  ['all tokens', ({ batchSize, sequenceLength }) => batchSize * sequenceLength, 128],
  ["the window and an attention's sink", ({ sequenceLength }) => sequenceLength + 1, 33],
  ['the window and four tokens', ({ sequenceLength }) => sequenceLength + 4, 36],
  ['the window without its last token', ({ sequenceLength }) => sequenceLength - 1, 31],
] as const satisfies readonly (readonly [string, Parameters<typeof extrapolate>[0], number])[])(
  'extrapolates %s',
  (_, numberOf, expected) => {
    expect(extrapolate(numberOf)).toBe(expected);
  },
);

it('leaves sizes unknown that grow in another way', () => {
  expect(extrapolate(({ batchSize }) => batchSize ** 3)).toBe(OPEN);
});
