/**
 * Extracts the runs of the reference numbers (an independent float64 implementation on tiny-llama, FFN only) to the small
 * fixtures that test/prune-golden.test.ts compares whole pruning runs with.
 *
 * Usage: npx tsx scripts/extract-golden-run.ts GOLDEN_FOLDER test/fixtures
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const [goldenFolder, fixtureFolder] = process.argv.slice(2);
if (goldenFolder === undefined || fixtureFolder === undefined) {
  throw new Error('usage: npx tsx scripts/extract-golden-run.ts GOLDEN_FOLDER test/fixtures');
}
const golden = JSON.parse(readFileSync(join(goldenFolder, 'tiny-llama.json'), 'utf8'));
const file = readFileSync(join(goldenFolder, 'tiny-llama.safetensors'));
const headerBytes = Number(file.readBigUInt64LE(0));
const header = JSON.parse(file.toString('utf8', 8, 8 + headerBytes));

const NEURON_COUNT = 512;
const madeBy = 'npx tsx scripts/extract-golden-run.ts GOLDEN_FOLDER test/fixtures';

const flapRun = {
  madeBy,
  /** [8, 128] */
  tokens: readTensor('calibration_tokens'),
  /** Kept neurons by block. */
  keep: golden.runs['flap-uniform'].keep,
  /** [6, 512] and [6, 192], of the dense model; float32 in base64. */
  ffnMean: asFloat32(readTensor('ffn_hidden_mean')),
  ffnVariance: asFloat32(readTensor('ffn_hidden_variance')),
  attentionMean: asFloat32(readTensor('attention_output_mean')),
  attentionVariance: asFloat32(readTensor('attention_output_variance')),
  /** [6, 192], what FLAP adds to each block's output. */
  bias: asFloat32(Array.from({ length: 6 }, (_, block) => readTensor(`flap-uniform.block${block}.down_bias`)).flat()),
};
write('golden-flap-run.json', flapRun);

write('golden-runs.json', {
  madeBy,
  /** [16, 128] */
  evaluationTokens: readTensor('evaluation_tokens'),
  denseLoss: golden.nll.dense,
  blockChange: golden.block_change,
  /** [6, 7, 64], in the space of the principal components; float32 in base64. */
  contextCenters: asFloat32(readTensor('context_centers')),
  groups: golden.groups,
  runs: Object.fromEntries(
    Object.entries<GoldenRun>(golden.runs).map(([name, { keep, nll_calibration, nll_evaluation }]) => [
      name,
      { removed: keep.map(removedOf), loss: { calibration: nll_calibration, evaluation: nll_evaluation } },
    ]),
  ),
});

interface GoldenRun {
  readonly keep: readonly (readonly number[])[];
  readonly nll_calibration: number;
  readonly nll_evaluation: number;
}

function write(name: string, fixture: object): void {
  writeFileSync(join(fixtureFolder!, name), `${JSON.stringify(fixture)}\n`);
}

function removedOf(keep: readonly number[]): number[] {
  return Array.from({ length: NEURON_COUNT }, (_, neuron) => neuron).filter((neuron) => !keep.includes(neuron));
}

function readTensor(name: string): number[] {
  const { dtype, data_offsets } = header[name];
  const [start, end] = data_offsets.map((offset: number) => 8 + headerBytes + offset);
  const bytes = new Uint8Array(file.subarray(start, end)).buffer;
  return Array.from(dtype === 'F64' ? new Float64Array(bytes) : new Int32Array(bytes));
}

function asFloat32(values: readonly number[]): string {
  return Buffer.from(Float32Array.from(values).buffer).toString('base64');
}
