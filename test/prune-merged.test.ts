import type { GraphProto } from 'onnx-buf';
import { UnsupportedModelError } from '../src/errors.js';
import { createLanguageModel } from '../src/evaluation/session-language-model.js';
import { loadModel } from '../src/onnx/load-model.js';
import { bytesSource, createMemoryFolder } from '../src/onnx/memory-folder.js';
import { splitMerged } from '../src/onnx/merged-decoder.js';
import type { OnnxModel } from '../src/onnx/onnx-model.js';
import type { PruneOptions } from '../src/options.js';
import { maskModel } from '../src/removal/mask-model.js';
import { pruneNoPastBranch } from '../src/removal/prune-no-past-branch.js';
import { storeInMemory } from '../src/removal/repair-linear.js';
import { analyseModel } from '../src/runtime/analyse-model.js';
import { testEngine } from './support/engine.js';
import { mergedDecoder } from './support/merged-decoder.js';
import { VOCABULARY } from './support/small-decoder.js';
import { bytesOf, pruneLoaded, relativeGap, runModel } from './support/tiny-llama.js';

async function load(bytes: Uint8Array) {
  const model = splitMerged(await loadModel(bytesSource('model.onnx', bytes), createMemoryFolder('none')));
  return { model, analysed: await analyseModel(model, testEngine) };
}

const WINDOWS = Array.from({ length: 3 }, (_, window) =>
  Int32Array.from({ length: 10 }, (_, at) => (window * 17 + at * at * 7 + at * 3) % VOCABULARY),
);

/** Logits after a prompt, by the branch without past, and after each further token, by the one with past. */
async function read(model: OnnxModel): Promise<Float32Array[]> {
  const session = await testEngine.load(await bytesOf(model));
  const language = await createLanguageModel({ engine: testEngine, session });
  const reader = language.createReader();
  const found = [(await reader.read([WINDOWS[0]!.subarray(0, 7)])).slice()];
  for (let at = 7; at < 10; at += 1) found.push((await reader.read([WINDOWS[0]!.subarray(at, at + 1)])).slice());
  await language.release();
  return found;
}

const branchesOf = ({ proto }: OnnxModel): GraphProto[] => proto.graph!.node[0]!.attribute.map(({ g }) => g!);

describe('a merged decoder', () => {
  it('keeps its weights and logits when nothing is removed', async () => {
    const { model } = await load(mergedDecoder());
    const whole = await pruneNoPastBranch(model, { modules: [], changed: new Map() }, testEngine);
    expect(whole.proto.graph!.node.map(({ opType }) => opType)).toEqual(['If']);
    expect(whole.proto.graph!.input.map(({ name }) => name)).toContain('use_cache_branch');
    expect([...whole.weights.keys()].toSorted()).toEqual([...model.weights.keys()].toSorted());
    const expected = (await runModel(model, [WINDOWS[0]!])).logits!.data as Float32Array;
    const found = await read(whole);
    for (const [at, logits] of found.entries()) {
      const row = expected.subarray((6 + at) * VOCABULARY, (7 + at) * VOCABULARY);
      expect(relativeGap(logits, row)).toBeLessThan(1e-5);
    }
  });

  it.each<PruneOptions>([
    { sparsity: 0.4, method: 'flap', modules: 'all' },
    { sparsity: 0.4, modules: 'all' },
    { sparsity: 0.4, method: 'o-fang', modules: 'ffn', grouping: { contextCount: 3 } },
  ])('is pruned in both branches, which share their weights: %j', async (options) => {
    const loaded = await load(mergedDecoder());
    const outcome = await pruneLoaded(loaded, options, { windows: WINDOWS });
    expect(outcome.modules.some(({ module, keep }) => keep.length < module.unitCount)).toBe(true);
    const merged = await pruneNoPastBranch(outcome.model, outcome, testEngine);
    expect([...merged.weights.keys()].toSorted()).toEqual([...outcome.model.weights.keys()].toSorted());
    const masked = await maskModel(loaded.model, outcome, { analysed: loaded.analysed, store: storeInMemory });
    const expected = (await runModel(masked, [WINDOWS[0]!])).logits!.data as Float32Array;
    for (const [at, logits] of (await read(merged)).entries()) {
      const row = expected.subarray((6 + at) * VOCABULARY, (7 + at) * VOCABULARY);
      expect(relativeGap(logits, row)).toBeLessThan(1e-5);
    }
    // When it is opened again, it is split again.
    const again = await load(await bytesOf(merged));
    expect(again.model.noPastBranch).toBeDefined();
    expect(branchesOf(merged)).toHaveLength(2);
  });

  it('is refused if its branches have different weights', async () => {
    const loaded = await load(mergedDecoder());
    const outcome = await pruneLoaded(loaded, { sparsity: 0.4, method: 'flap', modules: 'ffn' }, { windows: WINDOWS });
    const [first, second] = outcome.modules;
    const mixed = [
      {
        ...first!,
        module: { ...first!.module, output: { ...first!.module.output, weight: second!.module.output.weight } },
      },
    ];
    const pruning = pruneNoPastBranch(outcome.model, { ...outcome, modules: mixed }, testEngine);
    await expect(pruning).rejects.toThrow(UnsupportedModelError);
    await expect(pruning).rejects.toThrow(/differs from the one with it.*decoder_with_past_model\.onnx/);
  });
});
