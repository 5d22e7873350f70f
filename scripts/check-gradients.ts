/**
 * Checks the gradients of an entire model against reference numbers of another framework.
 *
 * Usage: npx tsx scripts/check-gradients.ts MODEL REFERENCE.json [KEY]
 *
 * REFERENCE.json has `input_ids` [windows][tokens], `loss` (mean over all predictions) and `taylor` [blocks][neurons], the mean over
 * all tokens of |h dL/dh| with h the input of the FFN's last linear layer; with KEY, `loss` and `taylor` are under that key.
 */
import { readFileSync } from 'node:fs';
import { createNodeEngine } from '../src/node/node-engine.js';
import { openModelFolder } from '../src/node.js';
import { analyseModel } from '../src/runtime/analyse-model.js';
import { differentiateModel } from '../src/runtime/differentiate-model.js';
import { prefillFeeds } from '../src/runtime/prefill-feeds.js';

/** Largest error of a neuron's score, relative to the mean score of its block. */
const TOLERANCE = 1e-3;

interface Scores {
  readonly loss: number;
  readonly taylor: readonly (readonly number[])[];
}

const [model, referencePath, key] = process.argv.slice(2);
if (model === undefined || referencePath === undefined)
  throw new Error('Usage: check-gradients MODEL REFERENCE.json [KEY]');
const reference = JSON.parse(readFileSync(referencePath, 'utf8'));
const want: Scores = key === undefined ? reference : reference[key];
const found = await differentiate(model, reference.input_ids);
const errors = want.taylor.map((scores, block) => worstError(found.taylor[block] ?? [], scores));
console.log(
  `loss ${found.loss} (reference ${want.loss}), worst error per block ${errors.map((error) => error.toExponential(1))}`,
);
if (found.taylor.length !== want.taylor.length || errors.some((error) => !(error < TOLERANCE))) process.exitCode = 1;

async function differentiate(path: string, windows: readonly (readonly number[])[]): Promise<Scores> {
  const engine = await createNodeEngine();
  const folder = await openModelFolder(path);
  try {
    const model = await folder.load();
    const analysed = await analyseModel(model, engine);
    const ffns = analysed.detected.layout.modules.filter(({ kind }) => kind === 'ffn');
    const size = { batchSize: windows.length, sequenceLength: windows[0]?.length ?? 0 };
    const wanted = ffns.map(({ output }) => output.input);
    const { bytes, tokens, loss, gradients } = await differentiateModel({ model, analysed, wanted, ...size });
    const ids = windows.flat();
    const session = await engine.load(bytes);
    const results = await session.run({
      ...prefillFeeds(analysed.inputs, size, ids),
      [tokens]: { type: 'int64', dims: [size.batchSize, size.sequenceLength], data: BigInt64Array.from(ids, BigInt) },
    });
    await session.release();
    const floats = (name: string) => results[name]!.data as Float32Array;
    return {
      loss: floats(loss)[0]!,
      taylor: ffns.map(({ output: { input, inputCount } }) =>
        meanProducts(floats(input), floats(gradients.get(input)!), inputCount),
      ),
    };
  } finally {
    await folder.close();
  }
}

/** Mean over all tokens of |value * gradient|, by channel. */
function meanProducts(values: Float32Array, gradients: Float32Array, channelCount: number): number[] {
  const means = new Array<number>(channelCount).fill(0);
  values.forEach((value, at) => {
    means[at % channelCount]! += (Math.abs(value * gradients[at]!) * channelCount) / values.length;
  });
  return means;
}

function worstError(scores: readonly number[], want: readonly number[]): number {
  const mean = want.reduce((sum, value) => sum + value, 0) / want.length;
  return Math.max(...want.map((value, at) => Math.abs(value - (scores[at] ?? Number.NaN)))) / mean;
}
