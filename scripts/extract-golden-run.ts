/**
 * Extracts the FLAP run of the reference numbers (an independent float64 implementation on tiny-llama, FFN only) to the
 * small fixture that test/prune-golden.test.ts compares a whole pruning run with.
 *
 * Usage: npx tsx scripts/extract-golden-run.ts GOLDEN_FOLDER test/fixtures
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const [goldenFolder, fixtureFolder] = process.argv.slice(2);
if (goldenFolder === undefined || fixtureFolder === undefined) {
  throw new Error('usage: npx tsx scripts/extract-golden-run.ts GOLDEN_FOLDER test/fixtures');
}
const run = JSON.parse(readFileSync(join(goldenFolder, 'tiny-llama.json'), 'utf8')).runs['flap-uniform'];
const file = readFileSync(join(goldenFolder, 'tiny-llama.safetensors'));
const headerBytes = Number(file.readBigUInt64LE(0));
const header = JSON.parse(file.toString('utf8', 8, 8 + headerBytes));

const fixture = {
  madeBy: 'npx tsx scripts/extract-golden-run.ts GOLDEN_FOLDER test/fixtures',
  /** [8, 128] */
  tokens: readTensor('calibration_tokens'),
  /** Kept neurons by block. */
  keep: run.keep,
  /** [6, 512] and [6, 192], of the dense model; float32 in base64. */
  ffnMean: asFloat32(readTensor('ffn_hidden_mean')),
  ffnVariance: asFloat32(readTensor('ffn_hidden_variance')),
  attentionMean: asFloat32(readTensor('attention_output_mean')),
  attentionVariance: asFloat32(readTensor('attention_output_variance')),
  /** [6, 192], what FLAP adds to each block's output. */
  bias: asFloat32(Array.from({ length: 6 }, (_, block) => readTensor(`flap-uniform.block${block}.down_bias`)).flat()),
};
writeFileSync(join(fixtureFolder, 'golden-flap-run.json'), `${JSON.stringify(fixture)}\n`);

function readTensor(name: string): number[] {
  const { dtype, data_offsets } = header[name];
  const [start, end] = data_offsets.map((offset: number) => 8 + headerBytes + offset);
  const bytes = new Uint8Array(file.subarray(start, end)).buffer;
  return Array.from(dtype === 'F64' ? new Float64Array(bytes) : new Int32Array(bytes));
}

function asFloat32(values: readonly number[]): string {
  return Buffer.from(Float32Array.from(values).buffer).toString('base64');
}
