import { cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { nodePlatform, openModelFolder } from '../../src/node.js';
import { type KeyInput, keyAt, runKey } from '../../src/pipeline/run-key.js';
import type { Platform } from '../../src/runtime/platform.js';
import { testEngine } from '../support/engine.js';
import { useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();
const at = (path: string) => join(folder(), path);

beforeEach(async () => {
  await cp('test/fixtures/exporters/llama-genai018-fp32', at('in'), { recursive: true });
  for (const name of ['text.txt', 'test.txt', 'seen.json']) await writeFile(at(name), name);
});

const requestOf = () => ({
  model: at('in'),
  out: at('out'),
  sparsity: 0.3,
  method: 'flap',
  seed: 0,
  calibration: { windowCount: 4, source: { file: at('text.txt') } },
  evaluation: { texts: [at('test.txt')] },
});

const engine = { ...testEngine, version: '1.30.0', executionProviders: ['cpu'], threads: 2 };

interface Change extends Partial<Omit<KeyInput, 'folders'>> {
  readonly request?: object;
  readonly platform?: Partial<Platform>;
}

async function keyOf({ request, platform, ...input }: Change = {}): Promise<string | undefined> {
  const model = await openModelFolder(at('in'));
  const given = { folders: [model], engine, call: 'prune', ...input };
  try {
    return await runKey({ ...nodePlatform, ...platform }, { ...requestOf(), ...request }, given);
  } finally {
    await model.close();
  }
}

it('a run key is the same for options in another order, and for those that do not change the bytes', async () => {
  const key = await keyOf();
  expect(key).toMatch(/^[0-9a-f]{64}$/);
  const { calibration, ...others } = requestOf();
  const turned = { source: calibration.source, windowCount: calibration.windowCount, windowLength: undefined };
  expect(await keyOf({ request: { calibration: turned, ...others } })).toBe(key);
  const ignored = { out: at('other'), sparsity: 0.5, report: false, certify: false, force: true, resume: false };
  const { signal } = new AbortController();
  expect(await keyOf({ request: { ...ignored, isolate: true, onProgress: () => {}, signal } })).toBe(key);
});

const statistics = () => ({ kind: 'statistics' as const, json: at('seen.json'), tensors: at('seen.safetensors') });

const CHANGES: Readonly<Record<string, () => Change>> = {
  'an option': () => ({ request: { seed: 1 } }),
  'a part of an option': () => ({ request: { calibration: { ...requestOf().calibration, windowCount: 5 } } }),
  'a list of numbers': () => ({ request: { blockSparsity: new Map([[0, 0.5]]) } }),
  'the call': () => ({ call: 'quantize' }),
  'the version of the runtime': () => ({ engine: { ...engine, version: '1.31.0' } }),
  'the execution provider': () => ({ engine: { ...engine, executionProviders: ['cuda'] } }),
  'the number of threads': () => ({ engine: { ...engine, threads: 4 } }),
  'the machine': () => ({ platform: { describeMachine: () => ({ runtime: 'Node.js 20', platform: 'other' }) } }),
  statistics: () => ({ place: statistics() }),
};

it.each(Object.keys(CHANGES))('a run key is another one for %s', async (name) => {
  expect(await keyOf(CHANGES[name]!())).not.toBe(await keyOf());
});

it.each([
  'in/model.onnx',
  'in/model.onnx.data',
  'in/genai_config.json',
  'in/tokenizer.json',
  'in/tokenizer_config.json',
  'text.txt',
  'test.txt',
  'seen.json',
])('a run key is another one if %s has changed', async (name) => {
  const before = await keyOf({ place: statistics() });
  const text = await readFile(at(name), 'latin1');
  // A field without effect, or another last byte.
  const changed =
    name.endsWith('.json') && text.startsWith('{') ? `{"other": 1, ${text.slice(1)}` : `${text.slice(0, -1)}x`;
  await writeFile(at(name), changed, 'latin1');
  expect(await keyOf({ place: statistics() })).not.toBe(before);
});

it('a run has no key if its options have functions, or its text cannot be read', async () => {
  expect(await keyOf({ request: { allocation: () => [] } })).toBeUndefined();
  expect(await keyOf({ request: { calibration: { source: { file: at('missing.txt') } } } })).toBeUndefined();
  expect(await keyOf({ platform: { openWorkspace: undefined } as unknown as Partial<Platform> })).toBeUndefined();
});

it('every sparsity of a run has a key of its own', () => {
  const keys = [[0.1], [0.2], [0.1, 0.2], []].map((sparsities) => keyAt(nodePlatform, 'key', sparsities));
  expect(new Set([...keys, keyAt(nodePlatform, 'other', [0.1])]).size).toBe(5);
  expect(keyAt(nodePlatform, undefined, [0.1])).toBeUndefined();
});
