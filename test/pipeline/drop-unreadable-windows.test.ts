import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { prune } from '../../src/node.js';
import type { GraphBuilder } from '../support/graph-builder.js';
import { buildDecoder, VOCABULARY } from '../support/small-decoder.js';

const [ZERO, LENGTH] = [0, 8];

/** Divides by the length, which is 0 for a zero vector. */
const unitLength = (g: GraphBuilder, x: string) =>
  g.op('Div', [x, g.op('Sqrt', [g.op('ReduceSumSquare', [x], { axes: [-1], keepdims: 1 })])]);

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fang-prune-unreadable-'));
  const nan = buildDecoder({ zeroToken: ZERO, before: unitLength });
  await writeFile(join(folder, 'nan.onnx'), nan);
  await writeFile(join(folder, 'sound.onnx'), buildDecoder({ zeroToken: ZERO }));
});
afterAll(() => rm(folder, { recursive: true }));

/** Windows of which some begin with the token whose embedding is zero. */
function pruneOn(name: string, firstTokens: readonly number[]) {
  const tokens = firstTokens.flatMap((first) => [
    first,
    ...Array.from({ length: LENGTH - 1 }, (_, at) => 1 + ((first * 5 + at * 7) % (VOCABULARY - 1))),
  ]);
  const calibration = { windowCount: firstTokens.length, windowLength: LENGTH, source: { tokens: [tokens] } };
  return prune({ model: join(folder, name), sparsity: 0.3, method: 'flap', dryRun: true, report: false, calibration });
}

const LEFT_OUT = /windows were left out: they begin with token 0, whose embedding is zero/;

it('leaves out windows on which the model outputs NaN from the first token', async () => {
  const { remarks, modules } = await pruneOn('nan.onnx', [3, ZERO, 5, 7]);
  expect(remarks).toContainEqual(expect.stringMatching(/^1 of 4 windows were left out: they begin with token 0,/));
  const { modules: others } = await pruneOn('nan.onnx', [3, 5, 7]);
  expect(modules.map(({ unitsAfter, keep }) => [unitsAfter, keep])).toEqual(
    others.map(({ unitsAfter, keep }) => [unitsAfter, keep]),
  );
});

it('keeps windows that begin with a zero embedding if the model can read them', async () => {
  const { remarks } = await pruneOn('sound.onnx', [3, ZERO, 5]);
  expect(remarks).not.toContainEqual(expect.stringMatching(LEFT_OUT));
});

it('names the token and the option to set if no window is left', async () => {
  await expect(pruneOn('nan.onnx', [ZERO, ZERO])).rejects.toMatchObject({
    code: 'ERR_NUMERICAL',
    message: expect.stringMatching(/all 2 calibration windows begin with token 0, .*calibration\.source/),
  });
});
