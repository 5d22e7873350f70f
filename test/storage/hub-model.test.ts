import { mkdir, readFile, readlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { HubError, ModelFormatError, OptionError, UnsupportedModelError } from '../../src/errors.js';
import { createHubStore } from '../../src/node/hub-store.js';
import { nodePlatform } from '../../src/node/node-platform.js';
import { runPrune } from '../../src/pipeline/run-prune.js';
import type { Progress } from '../../src/progress.js';
import type { HubLimits } from '../../src/runtime/hub-store.js';
import type { Platform } from '../../src/runtime/platform.js';
import { openModelFolder } from '../../src/storage/model-folder.js';
import { encode, externalIn, rawFloats, smallModel } from '../onnx/small-model.js';
import {
  commitOf,
  type HubFaults,
  type HubRepo,
  type HubServer,
  repoOf,
  startHubServer,
  TOKEN,
} from '../support/hub-server.js';
import { SHORT_LLAMA } from '../support/short-llama.js';
import { listFiles, useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();
const text = (content: string) => new TextEncoder().encode(content);

/** Weights that come in many pieces. */
const DATA = 'onnx/model.onnx_data';
const data = rawFloats(Array.from({ length: 500_000 }, (_, at) => at));
const modelWith = (location: string) =>
  encode(smallModel({ initializer: [{ name: 'e', dataType: 1, dims: [500_000n], ...externalIn({ location }) }] }));
const tiny: HubRepo = {
  files: {
    'README.md': text('dense'),
    'config.json': text('{}'),
    'tokenizer.json': text('{}'),
    'onnx/model.onnx': modelWith('model.onnx_data'),
    [DATA]: data,
    'tasks/a.jsonl': text('{}'),
  },
  license: 'apache-2.0',
};
const RECEIVED = ['config.json', 'onnx/model.onnx', DATA, 'tokenizer.json'];

let server: HubServer;
afterEach(() => server.close());

/** A Hub with repositories, and a platform that uses it. */
async function hubWith(repos: Record<string, HubRepo>, faults: HubFaults = {}, env = {}): Promise<Platform> {
  server = await startHubServer(repos, faults);
  const own = { HF_ENDPOINT: server.url, HF_HUB_CACHE: join(folder(), 'hub'), HF_TOKEN: '' };
  return { ...nodePlatform, hub: createHubStore({ ...own, ...env }) };
}

const open = async (platform: Platform, id: string, options: Parameters<typeof openModelFolder>[2] = {}) => {
  const opened = await openModelFolder(platform, id, options);
  await opened.close();
  return opened;
};

/** Compared as bytes: Jest compares elements. */
const isSame = async (root: string) => (await readFile(join(root, DATA))).equals(data);

const fetched = () => server.requests.flatMap(({ line }) => /^GET \/.+\/cdn\/\w+\/(.+)$/.exec(line)?.[1] ?? []);

describe('a model of the Hub', () => {
  it("is downloaded once into the cache that the Hub's clients share", async () => {
    const platform = await hubWith({ 'me/tiny': tiny });
    const steps: Progress[] = [];
    const opened = await open(platform, 'me/tiny', { onProgress: (step) => steps.push(step) });
    const commit = commitOf(tiny);
    const repo = join(folder(), 'hub/models--me--tiny');
    expect(opened).toMatchObject({ root: join(repo, 'snapshots', commit), modelFile: 'onnx/model.onnx' });
    expect(opened.hub).toEqual({ repo: 'me/tiny', revision: 'main', commit, license: 'apache-2.0' });
    expect(await readFile(join(repo, 'refs/main'), 'utf8')).toBe(commit);
    expect(await listFiles(opened.root)).toEqual(RECEIVED);
    expect(await readlink(join(opened.root, DATA))).toMatch(/^\.\.\/\.\.\/\.\.\/blobs\/[0-9a-f]{64}$/);
    expect(await isSame(opened.root)).toBe(true);
    const downloads = steps.filter(({ stage }) => stage === 'download');
    expect(downloads.at(-1)).toMatchObject({ done: downloads.at(-1)!.total });
    expect(downloads.at(-1)!.total).toBeGreaterThan(2e6);
    const before = fetched().length;
    await open(platform, 'me/tiny');
    expect(fetched()).toHaveLength(before);
  });

  it('is resumed after a cut connection', async () => {
    const cuts = { [DATA]: { after: 600_000, times: 2 } };
    const platform = await hubWith({ 'me/tiny': tiny }, { cuts });
    const { root } = await open(platform, 'me/tiny');
    const ranges = server.requests.flatMap(({ line, range }) => (line.includes('/cdn/') ? (range ?? []) : []));
    const starts = ranges.map((range) => Number(/^bytes=(\d+)-$/.exec(range)?.[1]));
    // Bytes in transit may be lost when the connection is cut, never more than what was sent.
    const received = starts.map((start, at) => start - (starts[at - 1] ?? 0));
    expect(received).toHaveLength(2);
    for (const bytes of received) {
      expect(bytes).toBeGreaterThan(300_000);
      expect(bytes).toBeLessThanOrEqual(600_000);
    }
    expect(await isSame(root)).toBe(true);
  });

  it.each([
    ['does not support ranges', true, 2],
    ['refuses ranges', 'refused', 3],
  ] as const)('is downloaded again if the server %s', async (_, noRanges, count) => {
    const cuts = { [DATA]: { after: 600_000, times: 1 } };
    const platform = await hubWith({ 'me/tiny': tiny }, { cuts, noRanges });
    const { root } = await open(platform, 'me/tiny');
    expect(fetched().filter((path) => path === DATA)).toHaveLength(count);
    expect(await isSame(root)).toBe(true);
  });

  it('is resumed after an abort from the bytes received', async () => {
    const platform = await hubWith({ 'me/tiny': tiny });
    const { signal, ...stop } = createAbort();
    const onProgress = ({ detail = '', done }: Progress) => {
      if (detail.startsWith(DATA) && done > 1e6) stop.abort();
    };
    await expect(open(platform, 'me/tiny', { signal, onProgress })).rejects.toThrow('stop');
    await open(platform, 'me/tiny');
    const [range = ''] = server.requests.flatMap(({ range }) => range ?? []);
    expect(Number(/^bytes=(\d+)-$/.exec(range)?.[1])).toBeGreaterThan(9e5);
  });

  it('is refused if contents do not match their hash, and downloaded again after an invalid part', async () => {
    const wrong: Record<string, Uint8Array> = { [DATA]: data.map((byte) => byte ^ 1) };
    const platform = await hubWith({ 'me/tiny': tiny }, { wrong });
    await expect(open(platform, 'me/tiny')).rejects.toThrow(ModelFormatError);
    await expect(open(platform, 'me/tiny')).rejects.toThrow(/does not match its hash/);
    delete wrong[DATA];
    const blobs = join(folder(), 'hub/models--me--tiny/blobs');
    const name = (await listFiles(blobs)).find((file) => file.endsWith('.incomplete'))!;
    await writeFile(join(blobs, name), new Uint8Array(1000));
    await open(platform, 'me/tiny');
  });

  it('is read from the cache without requests offline, and refused if it is not there', async () => {
    const platform = await hubWith({ 'me/tiny': tiny });
    await expect(open(platform, 'me/tiny', { offline: true })).rejects.toThrow(OptionError);
    await open(platform, 'me/tiny');
    const requestCount = server.requests.length;
    const { hub } = await open(platform, 'me/tiny', { offline: true });
    expect(hub).toMatchObject({ commit: commitOf(tiny) });
    await open(platform, `me/tiny@${commitOf(tiny)}`, { offline: true });
    const env = { HF_HUB_CACHE: join(folder(), 'hub'), HF_HUB_OFFLINE: '1' };
    await open({ ...nodePlatform, hub: createHubStore(env) }, 'me/tiny');
    expect(server.requests).toHaveLength(requestCount);
  });

  it('has the requested dtype, its external data, and models of its other parts', async () => {
    const files = {
      ...tiny.files,
      'onnx/model_q4.onnx': modelWith('of/q4.bin'),
      'onnx/of/q4.bin': data,
      'onnx/vision_encoder.onnx': encode(smallModel()),
      'onnx/vision_encoder_q4.onnx': encode(smallModel()),
      'model.safetensors': text('weights'),
      LICENSE: text('free'),
    };
    const platform = await hubWith({ 'me/tiny': { files } });
    const { root, modelFile } = await open(platform, 'me/tiny:q4');
    expect(modelFile).toBe('onnx/model_q4.onnx');
    expect(await listFiles(root)).toEqual([
      ...['LICENSE', 'config.json', 'onnx/model_q4.onnx', 'onnx/of/q4.bin', 'onnx/vision_encoder_q4.onnx'],
      'tokenizer.json',
    ]);
    await expect(open(platform, 'me/tiny:fp16')).rejects.toThrow(/has no model in fp16; it has onnx\/model\.onnx, /);
  });

  it('is pruned by its id, which the report records', async () => {
    const repo = { files: repoOf(SHORT_LLAMA), license: 'apache-2.0' };
    const platform = await hubWith({ 'me/tiny': repo });
    const request = { model: 'me/tiny', dryRun: true, sparsity: 0.3, method: 'magnitude' } as const;
    const report = await runPrune(platform, request);
    expect(report).toMatchObject({ model: 'me/tiny', hub: { repo: 'me/tiny', commit: commitOf(repo) } });
  });
});

describe('a path', () => {
  it('is preferred to an id if it exists', async () => {
    const platform = await hubWith({ 'me/tiny': tiny });
    const place = join(folder(), 'me/tiny');
    await mkdir(place, { recursive: true });
    const files = {
      ...platform.files,
      resolve: (...parts: string[]) => nodePlatform.files.resolve(folder(), ...parts),
    };
    await expect(open({ ...platform, files }, 'me/tiny')).rejects.toThrow(/^There is no model in .+me\/tiny: /);
    expect(server.requests).toEqual([]);
  });

  it('that does not exist is described as an id and as a path', async () => {
    const platform = await hubWith({});
    const parts = [/has no models\/mine/, /check the name/, /There is no file or folder .+models\/mine either/];
    for (const part of parts) await expect(open(platform, 'models/mine')).rejects.toThrow(part);
    await expect(open(platform, 'mine')).rejects.toThrow(
      /no such file or folder, and "mine" is not an id of the Hugging/,
    );
    const page = 'https://huggingface.co/me/tiny/blob/main/onnx/model.onnx';
    await expect(open(platform, page)).rejects.toThrow(/model\.onnx" is an address\. Give the .+: me\/tiny\.$/);
  });
});

describe('refusals', () => {
  it('requires a token for a private repository, and sends it with every request', async () => {
    const repos = { 'me/tiny': { ...tiny, isPrivate: true } };
    await expect(open(await hubWith(repos), 'me/tiny')).rejects.toThrow(/for a private one set HF_TOKEN/);
    await server.close();
    await expect(open(await hubWith(repos, {}, { HF_TOKEN: 'hf_old' }), 'me/tiny')).rejects.toThrow(HubError);
    await server.close();
    await mkdir(join(folder(), 'home'));
    await writeFile(join(folder(), 'home/token'), `${TOKEN}\n`);
    const { HF_TOKEN: _, ...env } = { HF_TOKEN: '', HF_HOME: join(folder(), 'home') };
    const platform = await hubWith(repos, {}, { ...env, HF_TOKEN: undefined });
    await open(platform, 'me/tiny');
    expect(server.requests.every(({ token }) => token === TOKEN)).toBe(true);
  });

  it.each([
    [
      'a gated repository',
      { ...tiny, isGated: true },
      HubError,
      /is gated: ask for access on that page, and set HF_TOKEN/,
    ],
    [
      'safetensors only',
      { files: { 'config.json': text('{}'), 'model.safetensors': text('w') } },
      UnsupportedModelError,
      /Export it first, by: optimum-cli export onnx --model me\/it --task text-generation-with-past it /,
    ],
    [
      'models in separate folders',
      { files: { 'cpu/int4/model.onnx': text('w') } },
      OptionError,
      /hf download me\/it --include "cpu\/int4\/\*"/,
    ],
    [
      'names that differ only in case',
      { files: { ...tiny.files, LICENSE: text('free'), License: text('dear') } },
      ModelFormatError,
      /has both LICENSE and License/,
    ],
  ])('refuses %s', async (_, repo: HubRepo, kind, message) => {
    const opening = open(await hubWith({ 'me/it': repo }), 'me/it');
    await expect(opening).rejects.toThrow(kind);
    await expect(opening).rejects.toThrow(message);
  });

  const entry = { type: 'file', path: 'a.json', size: 1, oid: '0'.repeat(40) };
  it.each([
    ['a path out of the folder', { ...entry, path: '../../.bashrc' }, ModelFormatError, /not a path inside a folder/],
    ['a hash that is a path', { ...entry, oid: '../../x' }, ModelFormatError, /whose hash is/],
    ['a negative size', { ...entry, size: -1 }, ModelFormatError, /whose size is -1/],
    ['no path', { ...entry, path: 7 }, ModelFormatError, /not a path inside a folder/],
  ])('refuses %s in the listing', async (_, invalid, kind, message) => {
    const opening = open(await hubWith({ 'me/tiny': tiny }, { listed: [invalid] }), 'me/tiny');
    await expect(opening).rejects.toThrow(kind);
    await expect(opening).rejects.toThrow(message);
  });

  it('refuses an endless listing, and one that continues elsewhere', async () => {
    const listed = Array.from({ length: 20_000 }, (_, at) => ({ ...entry, path: `${at}.json` }));
    const endless = await hubWith({ 'me/tiny': tiny }, { listed, pageSize: 5000 });
    await expect(open(endless, 'me/tiny')).rejects.toThrow(/has more than 20000 files/);
    await server.close();
    const redirecting = await hubWith({ 'me/tiny': tiny }, { nextPages: 'http://127.0.0.1:9' });
    await expect(open(redirecting, 'me/tiny')).rejects.toThrow(/redirects requests elsewhere: http:\/\/127\.0\.0\.1:9/);
  });

  it.each([
    [{ HF_ENDPOINT: 'huggingface.co' }, /^HF_ENDPOINT is "huggingface\.co"; expected an address such as https:/],
    [
      { HF_TOKEN: 'hf_secret\nsecond line' },
      /^HF_TOKEN contains a space, a line break or another character(?!.*hf_secret)/,
    ],
  ])('refuses %j, without the token in the message', async (env, message) => {
    const opening = open(await hubWith({ 'me/tiny': tiny }, {}, env), 'me/tiny');
    await expect(opening).rejects.toThrow(HubError);
    await expect(opening).rejects.toThrow(message);
    expect(server.requests).toEqual([]);
  });

  it('throws if the Hub cannot be reached', async () => {
    const platform = await hubWith({});
    await server.close();
    await expect(open(platform, 'me/tiny')).rejects.toThrow(/cannot reach .+ECONNREFUSED.+--offline/);
  });
});

describe('a hostile, broken or busy Hub', () => {
  async function brokenHub(faults: HubFaults, other: Partial<HubLimits> = {}): Promise<Platform> {
    const limits = { listingPages: 20, retryMs: 1, retryWaitMs: 2500, ...other };
    const platform = await hubWith({ 'me/tiny': tiny }, faults);
    const hub = platform.hub!;
    return { ...platform, hub: { ...hub, settings: { ...hub.settings, limits } } };
  }

  it.each([
    ['a listing whose next page is itself', { endless: 'same' }, {}, /repeats its page/],
    ['endless empty pages', { endless: 'empty' }, {}, /has more than 20 pages/],
    [
      'an API that never answers',
      { silent: '/api/' },
      { answerMs: 200 },
      /does not answer for me\/tiny: no data in 0\.2 s/,
    ],
    ['an API that answers byte by byte', { slow: '/api/' }, { paceMs: 100 }, /came too slowly: \d+ bytes in 0\.1 s/],
    ['a file that never arrives', { silent: '/cdn/' }, { answerMs: 500 }, /does not answer for me\/tiny/],
    [
      'a file that arrives byte by byte',
      { slow: 'onnx_data' },
      { paceMs: 100 },
      /came too slowly: \d+ bytes in 0\.1 s/,
    ],
    [
      'a file whose connection is always cut',
      { cuts: { [DATA]: { after: 100, times: 1e9 } } },
      {},
      /was cut at \d+ of \d+ bytes \(.+\)\. The same call resumes/,
    ],
    [
      'a Hub that stays busy',
      { busy: { '/api/': { times: 1e9, status: 503 } } },
      {},
      /is busy \(503\) and asks to wait .+ after .+ s of waiting/,
    ],
    [
      'a Hub that asks to wait for an hour',
      { busy: { '/api/': { times: 1, status: 429, retryAfter: '3600' } } },
      {},
      /limits the rate of requests \(429\) and asks to wait 3600 s more/,
    ],
  ] as const)('ends in an error: %s', async (_, faults, limits, message) => {
    const opening = open(await brokenHub(faults, limits), 'me/tiny');
    await expect(opening).rejects.toThrow(HubError);
    await expect(opening).rejects.toThrow(message);
    expect(server.requests.length).toBeLessThan(40);
  });

  it('is asked again after the time that it names, with progress', async () => {
    const busy = {
      '/tree/': { times: 2, status: 429, retryAfter: new Date(Date.now() - 1000).toUTCString() },
      '/cdn/': { times: 2, status: 503, retryAfter: '0.01' },
    };
    const details: string[] = [];
    const platform = await brokenHub({ busy });
    const { root } = await open(platform, 'me/tiny', { onProgress: ({ detail = '' }) => details.push(detail) });
    expect(await isSame(root)).toBe(true);
    expect(details.filter((detail) => detail.includes('asks to wait'))).toHaveLength(4);
  });

  it('is not awaited any longer when the signal is aborted', async () => {
    const { signal, ...stop } = createAbort();
    const busy = { '/api/': { times: 1, status: 429, retryAfter: '2' } };
    const onProgress = ({ detail = '' }: Progress) => {
      if (detail.includes('asks to wait')) stop.abort();
    };
    await expect(open(await brokenHub({ busy }), 'me/tiny', { signal, onProgress })).rejects.toThrow('stop');
    expect(server.requests).toHaveLength(1);
  });
});

function createAbort() {
  const controller = new AbortController();
  return { signal: controller.signal, abort: () => controller.abort(new Error('stop')) };
}
