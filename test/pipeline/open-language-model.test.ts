import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { UnsupportedModelError } from '../../src/errors.js';
import type { LanguageModel } from '../../src/evaluation/language-model.js';
import { createNodeEngine } from '../../src/node/node-engine.js';
import { nodePlatform } from '../../src/node/node-platform.js';
import { openModelFolder } from '../../src/node.js';
import { openLanguageModel } from '../../src/pipeline/open-language-model.js';
import type { Engine } from '../../src/runtime/engine.js';
import { openModelFolder as openFolderOn } from '../../src/storage/model-folder.js';
import { testEngine } from '../support/engine.js';
import { SHORT_LLAMA } from '../support/short-llama.js';
import {
  buildDecoder,
  HIDDEN,
  linear,
  type Part,
  repeatHeads,
  selfAttention,
  separate,
} from '../support/small-decoder.js';
import { useTemporaryFolder } from '../support/temporary-folder.js';
import { relativeGap, TINY_LLAMA } from '../support/tiny-llama.js';

const folder = useTemporaryFolder();
const [HEADS, KV_HEADS, SIZE] = [2, 1, 8];

/** Fused attention of two heads of 8, with norms of queries and keys inside or before it, and a cache that slides or not. */
const fused =
  ({ normsInside = false, slides = false, bias = false }): Part =>
  ({ g, block }, x) => {
    const [q, k, v] = [HEADS, KV_HEADS, KV_HEADS].map((heads) => linear(g, x, HIDDEN, heads * SIZE)) as [
      string,
      string,
      string,
    ];
    const weights = [g.weight([SIZE], 0.3, 1), g.weight([SIZE], 0.3, 1)];
    const norm = (heads: string, at: number): string => {
      if (normsInside) return heads;
      const apart = g.op('Reshape', [heads, g.ints(0, 0, -1, SIZE)]);
      const normed = g.op('SimplifiedLayerNormalization', [apart, weights[at]!], {
        axis: -1,
        epsilon: { float: 1e-6 },
      });
      return g.op('Reshape', [normed, g.ints(0, 0, -1)]);
    };
    const past = ['key', 'value'].map((kind) =>
      g.input(`past_key_values.${block}.${kind}`, 1, ['batch', KV_HEADS, 'past_length', SIZE]),
    );
    const length = g.op('ReduceSum', ['attention_mask', g.ints(1)], { keepdims: 0 });
    const lengths = g.op('Cast', [g.op('Sub', [length, g.ints(1)])], { to: 6 });
    const total = g.op('Cast', [g.op('ReduceMax', [length], { keepdims: 0 })], { to: 6 });
    const presents = ['key', 'value'].map((kind) => `present.${block}.${kind}`);
    const [mixed = ''] = g.ops(
      'GroupQueryAttention',
      [
        norm(q, 0),
        norm(k, 1),
        v,
        ...past,
        lengths,
        total,
        ...['', '', ''],
        bias ? v : '',
        ...['', '', ''],
        ...(normsInside ? weights : []),
      ],
      [`mixed.${block}`, ...presents],
      {
        num_heads: HEADS,
        kv_num_heads: KV_HEADS,
        local_window_size: 3,
        ...(slides && { sliding_window_cache: 1 }),
      },
      'com.microsoft',
    );
    for (const present of presents) g.output(present, 1, ['batch', KV_HEADS, 'total', SIZE]);
    return linear(g, mixed, HEADS * SIZE, HIDDEN);
  };

async function withDecoder<T>(
  form: Parameters<typeof fused>[0],
  use: (model: LanguageModel) => Promise<T>,
): Promise<T> {
  const path = join(folder(), 'model.onnx');
  await writeFile(path, buildDecoder({ attention: fused(form) }));
  const opened = await openModelFolder(path);
  try {
    const model = await openLanguageModel(testEngine, opened);
    return await use(model).finally(() => model.release());
  } finally {
    await opened.close();
  }
}

/** Logits of two sequences read at once, and read token by token on their caches. */
async function logitsOf(model: LanguageModel): Promise<number[]> {
  const sequences = [Int32Array.of(3, 1, 4, 1, 5, 9, 2, 6), Int32Array.of(2, 7, 1, 8, 2, 8, 1, 8)];
  const whole = await model.readLogits(sequences);
  const reader = model.createReader();
  const steps: number[] = [];
  for (let at = 0; at < 8; at += 1)
    steps.push(...(await reader.read(sequences.map((tokens) => tokens.subarray(at, at + 1)))));
  return [...(whole.data as Float32Array), ...steps];
}

it.each([{ normsInside: true }, { slides: true }, { normsInside: true, slides: true }])(
  'runs %j, which has no CPU kernel, as equivalent operators',
  async (form) => {
    const [plain, other] = [await withDecoder({}, logitsOf), await withDecoder(form, logitsOf)];
    expect(Math.max(...plain.map((value, at) => Math.abs(value - other[at]!)))).toBeLessThan(1e-5);
  },
);

it('throws UnsupportedModelError at the first run if a kernel refuses the node', async () => {
  const reading = withDecoder({ bias: true }, (model) => model.readLogits([Int32Array.of(1, 2)]));
  await expect(reading).rejects.toThrow(UnsupportedModelError);
  await expect(reading).rejects.toThrow(
    /cannot run the model: it has a kernel that does not support.*GroupQueryAttention/,
  );
});

/** Logits of two sequences, token by token, for more tokens than a cache keeps in a separate tensor. */
async function stepsOf(path: string, generates: boolean, engine = testEngine): Promise<Float32Array> {
  const opened = await openModelFolder(path);
  const model = await openLanguageModel(engine, opened, { generates });
  const plain = generates ? await openLanguageModel(engine, opened) : model;
  try {
    expect(model.cacheWidth).toBe(plain.cacheWidth);
    const reader = model.createReader();
    const steps: number[] = [];
    for (let at = 0; at < 70; at += 1)
      steps.push(...(await reader.read([Int32Array.of((7 * at) % 37), Int32Array.of((11 * at + 5) % 37)])));
    return Float32Array.from(steps);
  } finally {
    await model.release();
    if (generates) await plain.release();
    await opened.close();
  }
}

it.each([
  ['of all heads', buildDecoder()],
  [
    'of heads that several query heads share',
    buildDecoder({ attention: selfAttention({ project: separate(2), spread: repeatHeads(2) }) }),
  ],
  ['inside one operator', buildDecoder({ attention: fused({}) })],
  ['that slides', buildDecoder({ attention: fused({ slides: true }) })],
  [
    'that the graph passes on',
    buildDecoder({ attention: selfAttention({ cached: (g, past) => g.op('Identity', [past]) }) }),
  ],
])('has the same logits token by token when opened for generation, with a cache %s', async (_, bytes) => {
  const path = join(folder(), 'model.onnx');
  await writeFile(path, bytes);
  expect(relativeGap(await stepsOf(path, true), await stepsOf(path, false))).toBeLessThan(1e-6);
});

it('opens a model that does not fit in memory block by block in every run', async () => {
  const read = async (memoryBytes: number) => {
    const loads: string[] = [];
    const engine: Engine = {
      ...testEngine,
      load: (...given) => {
        loads.push('load');
        return testEngine.load(...given);
      },
    };
    const opened = await openFolderOn({ ...nodePlatform, memoryBytes }, SHORT_LLAMA);
    const model = await openLanguageModel(engine, opened);
    loads.length = 0;
    const logits = await logitsOf(model).finally(() => model.release());
    await opened.close();
    return { logits, loadCount: loads.length };
  };
  const [whole, small] = [await read(2 ** 40), await read(1e5)];
  expect(whole.loadCount).toBe(0);
  // Nine runs of several blocks each.
  expect(small.loadCount).toBeGreaterThan(18);
  expect(relativeGap(Float32Array.from(small.logits), Float32Array.from(whole.logits))).toBeLessThan(1e-5);
});

it('has the same logits when opened for generation, with external weights and in WebAssembly', async () => {
  const plain = await stepsOf(TINY_LLAMA, false);
  expect(relativeGap(await stepsOf(TINY_LLAMA, true), plain)).toBeLessThan(1e-5);
  const wasm = await createNodeEngine({ executionProvider: 'wasm' });
  expect(relativeGap(await stepsOf(TINY_LLAMA, true, wasm), plain)).toBeLessThan(1e-5);
});
