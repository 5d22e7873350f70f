import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { HubError, ModelFormatError, OptionError } from '../../src/errors.js';
import { createHubStore } from '../../src/node/hub-store.js';
import { nodePlatform } from '../../src/node/node-platform.js';
import type { PushRequest } from '../../src/pipeline/calls.js';
import { runPush } from '../../src/pipeline/run-push.js';
import type { PruneReport } from '../../src/report/report-schema.js';
import { MANIFEST } from '../../src/runtime/folder-manifest.js';
import { formatModelCard } from '../../src/storage/model-card.js';
import { PRUNE_REPORT } from '../support/cli.js';
import { commitOf, type HubRepo, type HubServer, startHubServer, TOKEN } from '../support/hub-server.js';
import { useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();
let server: HubServer | undefined;
afterEach(async () => {
  await server?.close();
  server = undefined;
});

const REPORT: PruneReport = {
  ...PRUNE_REPORT,
  model: '/home/me/secret/dense',
  hub: { repo: 'org/dense', revision: 'main', commit: '0'.repeat(40), license: 'apache-2.0' },
  metrics: [{ kind: 'perplexity', name: '/home/me/wiki|test.txt', dense: 20, pruned: 25.678, better: 'lower' }],
};

const WRITTEN: Readonly<Record<string, string | Uint8Array>> = {
  'config.json': '{}',
  'onnx/model.onnx': new Uint8Array(200_000).fill(7),
  'calibration-windows.jsonl': '{"text": "mine"}',
  'fang-prune-report.json': JSON.stringify(REPORT),
};

/** The output folder of a run. */
async function writeResult(files: Readonly<Record<string, string | Uint8Array>> = WRITTEN): Promise<string> {
  const root = join(folder(), 'result');
  for (const inside of ['onnx', 'docs']) await mkdir(join(root, inside), { recursive: true });
  for (const [path, content] of Object.entries(files)) await writeFile(join(root, path), content);
  const listed = Object.entries(files).map(([path, { length }]) => ({ path, byteLength: length }));
  await writeFile(join(root, MANIFEST), JSON.stringify({ schema: 'fang-prune-files/1', version: '0', files: listed }));
  return root;
}

async function push(request: Partial<PushRequest>, repos: Record<string, HubRepo> = {}, env = {}) {
  server ??= await startHubServer(repos);
  const hub = createHubStore({ HF_ENDPOINT: server.url, HF_HUB_CACHE: folder(), HF_TOKEN: TOKEN, ...env });
  return runPush({ ...nodePlatform, hub }, { folder: join(folder(), 'result'), repo: 'me/small', ...request });
}

it('uploads files of the manifest and a model card in one commit', async () => {
  const root = await writeResult();
  await writeFile(join(root, 'notes.txt'), 'mine');
  const repos: Record<string, HubRepo> = {};
  const pushed = await push({ create: true, private: true }, repos);
  const { files, isPrivate } = repos['me/small']!;
  expect(Object.keys(files).sort()).toEqual(['README.md', 'config.json', 'onnx/model.onnx']);
  expect(Buffer.from(files['onnx/model.onnx']!).equals(await readFile(join(root, 'onnx/model.onnx')))).toBe(true);
  expect(Buffer.from(files['README.md']!).toString()).toBe(pushed.card);
  expect(isPrivate).toBe(true);
  expect(pushed).toMatchObject({ commit: commitOf(repos['me/small']!), url: `${server!.url}/me/small` });
  expect(pushed.leftOut).toEqual([
    ...['calibration-windows.jsonl', 'fang-prune-files.json', 'fang-prune-report.json', 'notes.txt'],
  ]);
  expect(
    server!.requests.filter(({ line }) => line.startsWith('PUT /storage')).every(({ token }) => token === TOKEN),
  ).toBe(true);
  const again = await push({ withReport: true });
  expect(again.files.map(({ path }) => path)).toContain('fang-prune-report.json');
});

it('uploads known files of a model, and others only if include names them', async () => {
  const root = await writeResult({
    ...WRITTEN,
    'tokenizer.json': '{}',
    LICENSE: 'free',
    'db.sqlite': 'mine',
    'docs/thesis.docx': 'mine',
    'other.onnx': 'mine',
    'figure.png': 'pixels',
  });
  await writeFile(join(root, 'notes.txt'), 'mine');
  const repos: Record<string, HubRepo> = {};
  const pushed = await push({ create: true, include: ['figure.png', './notes.txt'] }, repos);
  expect(Object.keys(repos['me/small']!.files).sort()).toEqual([
    ...['LICENSE', 'README.md', 'config.json', 'figure.png', 'notes.txt', 'onnx/model.onnx', 'tokenizer.json'],
  ]);
  expect(pushed.leftOut).toEqual([
    ...['calibration-windows.jsonl', 'db.sqlite', 'docs/thesis.docx', 'fang-prune-files.json'],
    ...['fang-prune-report.json', 'other.onnx'],
  ]);
});

it('uploads a report without local paths', async () => {
  await writeResult({ ...WRITTEN, 'fang-prune-report.html': '/home/me/secret' });
  const repos: Record<string, HubRepo> = {};
  await push({ create: true, withReport: true }, repos);
  for (const [path, bytes] of Object.entries(repos['me/small']!.files))
    expect([path, Buffer.from(bytes).includes('/home/me')]).toEqual([path, false]);
  const report = Buffer.from(repos['me/small']!.files['fang-prune-report.json']!).toString();
  expect(JSON.parse(report)).toMatchObject({ model: 'dense', metrics: [{ name: 'wiki|test.txt' }] });
});

it('sends no request in a dry run', async () => {
  await writeResult();
  expect(await push({ dryRun: true, license: 'mit' })).toMatchObject({ card: expect.stringContaining('license: mit') });
  expect(server!.requests).toEqual([]);
});

it.each([
  ['a missing repository', {}, {}, HubError, /To create it, add --create/],
  ['no token', {}, { HF_TOKEN: '' }, HubError, /needs a token with write permission: set HF_TOKEN/],
  ['an invalid token', {}, { HF_TOKEN: 'hf_old' }, HubError, /HF_TOKEN|has no me\/small/],
  ['offline', {}, { HF_HUB_OFFLINE: '1' }, HubError, /HF_HUB_OFFLINE is set/],
  ['an invalid name', { repo: 'small' }, {}, OptionError, /^repo is "small"; expected a name on the Hub/],
  ['an invalid branch', { branch: '../a', dryRun: true }, {}, OptionError, /^branch is "\.\.\/a"; expected a name/],
  ['a missing file', { include: ['gone.png'] }, {}, OptionError, /^include names gone\.png, and .+ no such/],
  [
    'a file outside the folder',
    { include: ['../secret'] },
    {},
    OptionError,
    /^include names \.\.\/secret, which is not a path inside/,
  ],
  ['a folder that no run wrote', { folder: 'docs' }, {}, OptionError, /has no fang-prune-files\.json/],
])('refuses %s', async (_, request, env, kind, message) => {
  await writeResult();
  const pushing = push(request, {}, { HF_HOME: folder(), ...env });
  await expect(pushing).rejects.toThrow(kind);
  await expect(pushing).rejects.toThrow(message);
});

it('refuses private for a public repository', async () => {
  await writeResult();
  await expect(push({ private: true }, { 'me/small': { files: {} } })).rejects.toThrow(/^private is set, and/);
});

it.each([
  ['has another size', { path: 'config.json', byteLength: 3 }, /it has 2 bytes, not 3/],
  ['is missing', { path: 'gone.json' }, /it is missing/],
  ['is outside the folder', { path: '../../.ssh/id_rsa' }, /which is not a path inside it/],
  ['is a link out of the folder', { path: 'key' }, /key is a link out of the folder/],
])('uploads nothing if a listed file %s', async (_, entry, message) => {
  const root = await writeResult();
  await writeFile(join(folder(), 'secret'), 'mine');
  await symlink(join(folder(), 'secret'), join(root, 'key'));
  await writeFile(join(root, MANIFEST), JSON.stringify({ schema: 'fang-prune-files/1', files: [entry] }));
  await expect(push({ create: true })).rejects.toThrow(ModelFormatError);
  await expect(push({ create: true })).rejects.toThrow(message);
  expect(server!.requests).toEqual([]);
});

describe('the model card', () => {
  const card = { repo: 'me/small', baseModel: 'org/dense', license: 'llama3.2', report: REPORT } as const;

  it('has metadata, base model, metrics and usage, and no local paths', () => {
    const text = formatModelCard({ ...card, layout: 'transformers.js' });
    expect(text).toMatch(
      /^---\nlibrary_name: transformers\.js\npipeline_tag: text-generation\nbase_model: org\/dense\nlicense: llama3\.2\ntags:\n- onnx\n/,
    );
    expect(text).toContain('| perplexity, wiki\\|test.txt | 20.00 | 25.68 |  |');
    expect(text).toContain(`from commit \`${'0'.repeat(40)}\` of org/dense`);
    expect(text).toContain("pipeline('text-generation', 'me/small')");
    expect(text).not.toContain('/home');
  });

  it('quotes a license, omits an unknown base model, and shows code for genai', () => {
    const text = formatModelCard({
      ...card,
      baseModel: undefined,
      license: 'a: "b"',
      report: undefined,
      layout: 'genai',
    });
    expect(text).toContain('license: "a: \\"b\\""\n');
    expect(text).toContain("og.Model('model')");
    expect(text).not.toContain('base_model');
  });

  it('describes a quantised model if nothing was removed', () => {
    const report = { ...REPORT, sparsity: { requested: 0, achieved: 0, ofAllParameters: 0 }, metrics: [] };
    const text = formatModelCard({ ...card, report, layout: 'transformers.js' });
    expect(text).toContain('base_model_relation: quantized');
    expect(text).toContain('Not measured yet.');
  });
});

it.each(['/revision/', '/preupload/', '/commit/'])('stops with the reason of the abort signal: %s', async (slow) => {
  await writeResult();
  server = await startHubServer({ 'me/small': { files: {} } }, { slow });
  const abortion = new AbortController();
  const reason = new Error('enough');
  const pushed = push({ signal: abortion.signal });
  const isAsked = () => server!.requests.some(({ line }) => line.includes(slow));
  const timer = setInterval(() => isAsked() && setTimeout(() => abortion.abort(reason), 50), 10);
  await expect(pushed).rejects.toBe(reason);
  clearInterval(timer);
  expect(server.repos['me/small']!.files).toEqual({});
});
