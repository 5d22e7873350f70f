import { readFileSync } from 'node:fs';
import type { PruneOptions } from '../src/options.js';
import type { PruneJob, PruneOutcome } from '../src/prune/job.js';
import type { DenseMeasures } from '../src/prune/measure-dense/dense-measures.js';
import { type Loaded, loadTinyLlama, meanLosses, pruneLoaded } from './support/tiny-llama.js';

// Extracted by scripts/extract-golden-run.ts (`madeBy` in the file) from an independent float64 implementation.
const fixture = JSON.parse(readFileSync('test/fixtures/golden-runs.json', 'utf8'));
const { tokens } = JSON.parse(readFileSync('test/fixtures/golden-flap-run.json', 'utf8'));
const { affinity: affinityOfBlock1 } = JSON.parse(readFileSync('test/fixtures/golden-groups.json', 'utf8'));
const windowsOf = (ids: number[]) =>
  Array.from({ length: ids.length / 128 }, (_, row) => Int32Array.from(ids.slice(row * 128, (row + 1) * 128)));
const calibration = windowsOf(tokens);
const evaluation = windowsOf(fixture.evaluationTokens);
const centers = new Float32Array(new Uint8Array(Buffer.from(fixture.contextCenters, 'base64')).buffer);

const CONTEXTS = 7;
const DIMENSIONS = 64;
const NEURONS = 512;
/** Centres of the reference, which clustered once, with plain k-means; all other numbers follow from them. */
const centersOf: NonNullable<PruneJob['centersOf']> = ({ block }) =>
  Float64Array.from(centers.subarray(block * CONTEXTS * DIMENSIONS, (block + 1) * CONTEXTS * DIMENSIONS));
const BLOCKS = [0, 1, 2, 3, 4, 5];

let loaded: Loaded;
const outcomes = new Map<string, PruneOutcome>();
beforeAll(async () => {
  loaded = await loadTinyLlama();
  for (const name of Object.keys(fixture.runs)) outcomes.set(name, await pruneAs(name));
});

const METHODS: Readonly<Record<string, string>> = { 'flap-uniform': 'flap', 'obc-uniform': 'obc' };

function pruneAs(name: string): Promise<PruneOutcome> {
  const options: PruneOptions = { sparsity: 0.3, modules: 'ffn', method: METHODS[name] ?? name };
  return pruneLoaded(loaded, options, { windows: calibration, centersOf });
}

describe('measurements of the dense model', () => {
  let dense: DenseMeasures;
  beforeAll(() => {
    ({ dense } = outcomes.get('o-fang')!);
  });

  it('have the reference block change', () => {
    BLOCKS.forEach((block) => {
      expect(dense.blockChange![block]).toBeCloseTo(fixture.blockChange[block], 5);
    });
  });

  it('have the reference affinity, as its mean over all tokens', () => {
    const counts = new Float64Array(CONTEXTS);
    const [, second] = [...dense.functional.values()];
    for (const context of second!.contexts.contextOfToken) counts[context]! += 1;
    const mean = affinityOfBlock1.reduce(
      (sum: number, value: number, at: number) => sum + (value * counts[Math.floor(at / NEURONS)]!) / 1024 / NEURONS,
      0,
    );
    expect(dense.sensitivity![1]! / mean).toBeCloseTo(1, 4);
  });

  it.each(BLOCKS)('have exactly the reference groups in block %d', (block) => {
    const { groups } = [...dense.functional.values()][block]!;
    expect([...groups.shared]).toEqual(fixture.groups[block].shared);
    expect(groups.functions.map((group) => [...group])).toEqual(fixture.groups[block].functions);
  });
});

describe.each(Object.keys(fixture.runs))('%s at sparsity 0.3, FFN only', (name) => {
  let outcome: PruneOutcome;
  beforeAll(() => {
    outcome = outcomes.get(name)!;
  });

  it.each(BLOCKS)('removes the reference neurons of block %d, except one near tie at most', (block) => {
    const kept = new Set(outcome.modules.find(({ module }) => module.block === block)?.keep);
    const wanted: number[] = fixture.runs[name].removed[block];
    expect(NEURONS - kept.size).toBe(wanted.length);
    // Float32 sums move a neuron at the threshold past its neighbour now and then.
    expect(wanted.filter((neuron) => kept.has(neuron)).length).toBeLessThanOrEqual(1);
  });

  it('has the reference loss', async () => {
    const { loss } = fixture.runs[name];
    const [onCalibration, onEvaluation] = await meanLosses(outcome.model, [calibration, evaluation]);
    expect(Math.abs(onCalibration! - loss.calibration)).toBeLessThan(1e-3);
    expect(Math.abs(onEvaluation! - loss.evaluation)).toBeLessThan(1e-3);
  });
});

it('gives the dense model the reference loss', async () => {
  const [onCalibration, onEvaluation] = await meanLosses(loaded.model, [calibration, evaluation]);
  expect(onCalibration!).toBeCloseTo(fixture.denseLoss.calibration, 4);
  expect(onEvaluation!).toBeCloseTo(fixture.denseLoss.evaluation, 4);
});
