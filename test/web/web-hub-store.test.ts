import { HubError, ModelFormatError, OptionError } from '../../src/errors.js';
import type { Progress } from '../../src/progress.js';
import type { Platform } from '../../src/runtime/platform.js';
import { openModelFolder } from '../../src/storage/model-folder.js';
import { createWebPlatform } from '../../src/web.js';
import { encode, externalIn, rawFloats, smallModel } from '../onnx/small-model.js';
import { FakeDirectory } from '../support/fake-directory.js';
import { commitOf, type HubFaults, type HubServer, startHubServer, TOKEN } from '../support/hub-server.js';

const DATA = 'onnx/model.onnx_data';
const data = rawFloats(Array.from({ length: 500_000 }, (_, at) => at));
const initializer = [{ name: 'e', dataType: 1, dims: [500_000n], ...externalIn({ location: 'model.onnx_data' }) }];
const config = new TextEncoder().encode('{}');
const tiny = { files: { 'config.json': config, 'onnx/model.onnx': encode(smallModel({ initializer })), [DATA]: data } };

let server: HubServer;
afterEach(() => server.close());

/** A page with a private file system, and a server in place of the Hub. */
async function pageWith(faults: HubFaults = {}, token?: string): Promise<Platform> {
  server = await startHubServer({ 'me/tiny': tiny, 'me/own': { ...tiny, isPrivate: true } }, faults);
  return createWebPlatform({ home: new FakeDirectory('opfs'), hub: { endpoint: `${server.url}/`, token } });
}

async function open(platform: Platform, id: string, options: Parameters<typeof openModelFolder>[2] = {}) {
  const opened = await openModelFolder(platform, id, options);
  await opened.close();
  return opened;
}

async function isComplete({ files }: Platform, root: string): Promise<boolean> {
  const source = await files.open(files.resolve(root, DATA));
  return Buffer.from(await source!.read(0, source!.byteLength)).equals(data);
}

const rangesOf = () => server.requests.flatMap(({ line, range }) => (line.includes('/cdn/') && range) || []);

it('downloads a model of the Hub into the private file system, once', async () => {
  const platform = await pageWith();
  const { root, modelFile, hub } = await open(platform, 'me/tiny');
  expect({ root, modelFile }).toEqual({
    root: `/opfs/.fang-prune-hub/models--me--tiny/snapshots/${commitOf(tiny)}`,
    modelFile: 'onnx/model.onnx',
  });
  expect(hub).toMatchObject({ repo: 'me/tiny', revision: 'main', commit: commitOf(tiny) });
  expect(await isComplete(platform, root)).toBe(true);
  const countDownloads = () => server.requests.filter(({ line }) => line.includes('/cdn/')).length;
  const downloadCount = countDownloads();
  await open(platform, 'me/tiny');
  expect(countDownloads()).toBe(downloadCount);
  const all = server.requests.length;
  await open(platform, 'me/tiny', { offline: true });
  expect(server.requests).toHaveLength(all);
});

it('resumes a download after a lost connection, and after an abort', async () => {
  const platform = await pageWith({ cuts: { [DATA]: { after: 600_000, times: 1 } } });
  const abortion = new AbortController();
  const onProgress = ({ detail = '', done }: Progress) => {
    if (detail.startsWith(DATA) && done > 1_500_000) abortion.abort(new Error('stop'));
  };
  await expect(open(platform, 'me/tiny', { signal: abortion.signal, onProgress })).rejects.toThrow('stop');
  const { root } = await open(platform, 'me/tiny');
  const [cut, aborted] = rangesOf().map((range) => Number(/^bytes=(\d+)-$/.exec(range)?.[1]));
  expect(cut).toBe(600_000);
  expect(aborted).toBeGreaterThan(1_000_000);
  expect(await isComplete(platform, root)).toBe(true);
});

it('refuses content with another hash, and downloads it again', async () => {
  const wrong: Record<string, Uint8Array> = { [DATA]: data.map((byte) => byte ^ 1) };
  const platform = await pageWith({ wrong });
  await expect(open(platform, 'me/tiny')).rejects.toThrow(ModelFormatError);
  delete wrong[DATA];
  expect(await isComplete(platform, (await open(platform, 'me/tiny')).root)).toBe(true);
});

it('sends hub.token, and names this option if the Hub refuses', async () => {
  const refused = open(await pageWith(), 'me/own');
  await expect(refused).rejects.toThrow(HubError);
  await expect(refused).rejects.toThrow(/for a private one set hub\.token.*no file or folder \/opfs\/me\/own/);
  await server.close();
  expect((await open(await pageWith({}, TOKEN), 'me/own')).hub).toMatchObject({ repo: 'me/own' });
});

it('refuses to download outside workers if files cannot be written in place', async () => {
  server = await startHubServer({ 'me/tiny': tiny });
  const home = new FakeDirectory('opfs', { inPlace: false });
  const platform = createWebPlatform({ home, hub: { endpoint: server.url } });
  const opening = open(platform, 'me/tiny');
  await expect(opening).rejects.toThrow(OptionError);
  await expect(opening).rejects.toThrow('downloaded in workers');
});
