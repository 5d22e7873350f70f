import { createRandom, drawNormal } from '../../src/linalg/random.js';
import { buildTree, foldTree, joinCovariances, joinMoments } from '../../src/report/merge-sums.js';

const SIZE = 7;
const random = createRandom(3);
const tokens = Array.from({ length: 30 }, (_, token) =>
  Float64Array.from({ length: SIZE }, (_, channel) => drawNormal(random) * (channel + 1) + Math.sin(token / 9)),
);

function statisticsOf(some: readonly Float64Array[]) {
  const meanOf = (pick: (token: Float64Array) => number) =>
    some.reduce((sum, token) => sum + pick(token), 0) / some.length;
  const mean = Float64Array.from({ length: SIZE }, (_, at) => meanOf((token) => token[at]!));
  const covariances: number[] = [];
  for (let row = 0; row < SIZE; row += 1)
    for (let column = 0; column <= row; column += 1)
      covariances.push(meanOf((token) => (token[row]! - mean[row]!) * (token[column]! - mean[column]!)));
  const variance = mean.map((center, at) => meanOf((token) => (token[at]! - center) ** 2));
  return { tokenCount: some.length, mean, variance, covariances };
}

const [one, other, all] = [tokens.slice(0, 8), tokens.slice(8), tokens].map(statisticsOf) as [
  ReturnType<typeof statisticsOf>,
  ReturnType<typeof statisticsOf>,
  ReturnType<typeof statisticsOf>,
];

it('joins moments to those of all tokens', () => {
  const joined = joinMoments(one, other);
  expect(joined.tokenCount).toBe(30);
  for (const name of ['mean', 'variance'] as const)
    joined[name].forEach((value, at) => {
      expect(value).toBeCloseTo(all[name][at]!, 10);
    });
});

it('joins parts of covariances that begin at any entry of the triangle', () => {
  const { length } = all.covariances;
  for (let start = 0; start < length; start += 1) {
    const partOf = ({ tokenCount, mean, covariances }: typeof all) => ({
      tokenCount,
      mean,
      start,
      values: Float64Array.from(covariances.slice(start, start + 9)),
    });
    const { values } = joinCovariances(partOf(one), partOf(other));
    expect(values).toHaveLength(Math.min(9, length - start));
    values.forEach((value, at) => {
      expect(value).toBeCloseTo(all.covariances[start + at]!, 10);
    });
  }
});

it('joins leaves in pairs, in their order', async () => {
  const leaves = ['a', 'b', 'c', 'd', 'e'].map((name) => ({ name, tokenCount: 2 }));
  const read = async ({ name, tokenCount }: (typeof leaves)[number]) => ({ text: name, tokenCount });
  type Value = Awaited<ReturnType<typeof read>>;
  const join = (first: Value, second: Value) => ({
    text: `(${first.text} ${second.text})`,
    tokenCount: first.tokenCount + second.tokenCount,
  });
  const tree = buildTree(leaves);
  expect(await foldTree(tree, { read, join })).toEqual({ text: '(((a b) c) (d e))', tokenCount: tree.tokenCount });
  expect(await foldTree(buildTree(leaves.slice(0, 1)), { read, join })).toEqual({ text: 'a', tokenCount: 2 });
});
