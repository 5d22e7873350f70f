/**
 * Checks the gradients of a whole model against reference numbers made by another framework.
 *
 * Usage: npx tsx scripts/check-gradients.ts MODEL REFERENCE.json [KEY]
 *
 * REFERENCE.json holds `input_ids` [windows][tokens], `loss` (mean over all predictions) and `taylor` [blocks][neurons], the mean over
 * all tokens of |h dL/dh| with h the input of the FFN's last linear map; with KEY, `loss` and `taylor` lie under that key.
 */
import { readFileSync } from 'node:fs';
import { type BlockGradient, differentiateModel } from './whole-model-gradient.js';

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
const { loss, taylor }: Scores = key === undefined ? reference : reference[key];
const result = await differentiateModel(model, reference.input_ids, taylor[0]?.length ?? 0);
const errors = taylor.map((want, block) => worstError(scoresOf(result.blocks[block], want.length), want));
console.log(
  `loss ${result.loss} (reference ${loss}), worst error per block ${errors.map((error) => error.toExponential(1))}`,
);
if (result.blocks.length !== taylor.length || errors.some((error) => !(error < TOLERANCE))) process.exitCode = 1;

function scoresOf(block: BlockGradient | undefined, size: number): Float64Array {
  const scores = new Float64Array(size);
  const { h = new Float32Array(), gradient = h } = block ?? {};
  h.forEach((value, at) => {
    scores[at % size] = (scores[at % size] ?? 0) + (Math.abs(value * (gradient[at] ?? 0)) * size) / h.length;
  });
  return scores;
}

function worstError(scores: Float64Array, want: readonly number[]): number {
  const mean = want.reduce((sum, value) => sum + value, 0) / want.length;
  return Math.max(...want.map((value, at) => Math.abs(value - (scores[at] ?? Number.NaN)))) / mean;
}
