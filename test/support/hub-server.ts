import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';

/** A repository as the server keeps it. */
export interface HubRepo {
  /** Contents by path. */
  readonly files: Record<string, Uint8Array>;
  readonly license?: string;
  /** Visible only with a token. */
  readonly isPrivate?: boolean;
  /** Listed for all, and downloaded only with a token. */
  readonly isGated?: boolean;
  /** Other names of commits than `main`. */
  readonly revisions?: Readonly<Record<string, string>>;
}

/** Faults of the server, some by the path of a file. */
export interface HubFaults {
  /** The connection ends after so many bytes, so many times; one that is held stays open without further bytes. */
  readonly cuts?: Readonly<Record<string, { readonly after: number; times: number; readonly isHeld?: boolean }>>;
  /** Ranges are not supported: the whole file is sent, or the request is refused. */
  readonly noRanges?: boolean | 'refused';
  /** Sent in place of the listed contents. */
  readonly wrong?: Readonly<Record<string, Uint8Array>>;
  /** Additional entries of the listing. */
  readonly listed?: readonly object[];
  /** Entries in a page of a listing. Default 4. */
  readonly pageSize?: number;
  /** Address of the pages after the first. */
  readonly nextPages?: string;
  /** Each page of a listing names itself as the next, or an empty one. */
  readonly endless?: 'same' | 'empty';
  /** Requests whose address contains this are never answered, or byte by byte. */
  readonly silent?: string;
  readonly slow?: string;
  /** Requests whose address contains a text are refused so many times. */
  readonly busy?: Readonly<Record<string, { times: number; readonly status: number; readonly retryAfter?: string }>>;
}

/** A local server that speaks the Hub's protocol: models, trees, files by redirects, uploads, commits. */
export interface HubServer {
  readonly url: string;
  readonly repos: Record<string, HubRepo>;
  readonly faults: HubFaults;
  /** Method and path of each request, with the range that was asked for, and whether a token came along. */
  readonly requests: readonly HubRequest[];
  close(): Promise<void>;
}

export interface HubRequest {
  readonly line: string;
  readonly range?: string;
  readonly token?: string;
}

export const TOKEN = 'hf_local';

/** CORS headers, as the Hub sends them. */
export const FOR_PAGES = {
  'access-control-allow-origin': '*',
  'access-control-allow-headers': 'authorization, content-type, range',
  'access-control-expose-headers':
    'x-repo-commit, x-error-code, x-error-message, link, etag, accept-ranges, content-range',
};

/** Files from this size on are stored outside the repository, as on the Hub. */
const LFS_BYTES = 100_000;
const PAGE_SIZE = 4;

/** The files of a folder as a repository has them. */
export function repoOf(folder: string, wanted: (path: string) => boolean = () => true): HubRepo['files'] {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const paths = entries.map((entry) =>
    join(entry.parentPath, entry.name)
      .slice(folder.length + 1)
      .replaceAll('\\', '/'),
  );
  return Object.fromEntries(paths.filter(wanted).map((path) => [path, readFileSync(join(folder, path))]));
}

/** 40 hexadecimal digits that identify contents. */
export function commitOf({ files }: HubRepo): string {
  const hash = createHash('sha1');
  for (const path of Object.keys(files).sort()) hash.update(path).update(files[path]!);
  return hash.digest('hex');
}

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const gitBlob = (bytes: Uint8Array) =>
  createHash('sha1').update(`blob ${bytes.byteLength}\0`).update(bytes).digest('hex');
const isLarge = (path: string, bytes: Uint8Array) => path.endsWith('.onnx') || bytes.byteLength >= LFS_BYTES;

export async function startHubServer(repos: Record<string, HubRepo>, faults: HubFaults = {}): Promise<HubServer> {
  const requests: HubRequest[] = [];
  const uploads = new Map<string, Uint8Array>();
  const server = createServer((request, response) => {
    const { range, authorization } = request.headers;
    const token = authorization?.replace('Bearer ', '');
    for (const [name, value] of Object.entries(FOR_PAGES)) response.setHeader(name, value);
    if (request.method === 'OPTIONS') return void response.writeHead(204).end();
    requests.push({ line: `${request.method} ${request.url}`, ...(range && { range }), ...(token && { token }) });
    if (isFaulty(request, response)) return;
    answer(request, response).catch((error) => fail(response, 500, 'Internal', String(error)));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

  /** Whether a fault replaces the answer. */
  function isFaulty(request: IncomingMessage, response: ServerResponse): boolean {
    const { silent, slow, busy = {} } = faults;
    const holds = (text: string | undefined) => text !== undefined && request.url!.includes(text);
    if (holds(slow)) {
      response.writeHead(200, { 'content-length': 1_000_000 });
      const timer = setInterval(() => response.write(' '), 10);
      response.on('close', () => clearInterval(timer));
      return true;
    }
    const refused = Object.entries(busy).find(([text, { times }]) => holds(text) && times > 0)?.[1];
    if (refused === undefined) return holds(silent);
    refused.times -= 1;
    const { status, retryAfter } = refused;
    response.writeHead(status, retryAfter === undefined ? {} : { 'retry-after': retryAfter }).end('later');
    return true;
  }

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname } = new URL(request.url!, url);
    const body = request.method === 'GET' ? Buffer.alloc(0) : await read(request);
    const token = request.headers.authorization?.replace('Bearer ', '');
    const storage = /^\/storage\/([0-9a-f]+)$/.exec(pathname);
    if (storage) {
      if (request.method === 'PUT') uploads.set(storage[1]!, body);
      // Another host would be asked here, which no token of the Hub's concerns.
      return void response.end();
    }
    if (pathname === '/api/repos/create') return create(JSON.parse(String(body)), token, response);
    const parts =
      /^\/api\/models\/([^/]+\/[^/]+)\/(revision|tree|preupload|commit)\/([^/]+)$/.exec(pathname) ??
      /^\/([^/]+\/[^/]+)\/(resolve|cdn)\/([^/]+)\/(.+)$/.exec(pathname) ??
      /^\/([^/]+\/[^/]+?)\.git\/info\/lfs\/objects\/(batch)()$/.exec(pathname);
    if (parts === null) return fail(response, 404, '', `no ${pathname}`);
    const [, name = '', verb, revision = '', path = ''] = parts.map((part) => decodeURIComponent(part ?? ''));
    const repo = repos[name];
    if (repo === undefined || (repo.isPrivate && token !== TOKEN))
      return fail(response, token === undefined ? 401 : 404, 'RepoNotFound', 'Repository not found');
    if (token !== undefined && token !== TOKEN) return fail(response, 401, '', 'Invalid credentials');
    if (['preupload', 'commit', 'batch'].includes(verb!) && token !== TOKEN)
      return fail(response, 403, '', 'You need write access');
    const commit = [commitOf(repo), 'main', 'HEAD'].includes(revision) ? commitOf(repo) : repo.revisions?.[revision];
    if (verb !== 'batch' && commit === undefined)
      return fail(response, 404, 'RevisionNotFound', `Invalid rev id: ${revision}`);
    const json = (value: unknown, headers = {}) =>
      void response.writeHead(200, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(value));
    if (verb === 'revision')
      return json({
        _id: '1',
        id: name,
        private: repo.isPrivate ?? false,
        gated: repo.isGated ? 'manual' : false,
        downloads: 0,
        likes: 0,
        lastModified: '2026-01-01T00:00:00.000Z',
        sha: commit,
        cardData: repo.license === undefined ? {} : { license: repo.license },
      });
    if (verb === 'tree') return listTree(request, repo, json);
    if (verb === 'resolve') {
      if (repo.isGated && token !== TOKEN) return fail(response, 403, 'GatedRepo', `Access to ${name} is restricted`);
      const bytes = repo.files[path];
      if (bytes === undefined) return fail(response, 404, 'EntryNotFound', 'Entry not found');
      const large = isLarge(path, bytes);
      return void response
        .writeHead(302, {
          location: `${url}/${name}/cdn/${commit}/${path}`,
          'x-repo-commit': commit,
          etag: `"${large ? 'pointer' : gitBlob(bytes)}"`,
          ...(large && { 'x-linked-etag': `"${sha256(bytes)}"`, 'x-linked-size': bytes.byteLength }),
        })
        .end();
    }
    if (verb === 'cdn') return send(request, response, path, repo.files[path]!);
    if (verb === 'preupload') {
      const { files } = JSON.parse(String(body)) as { files: { path: string; size: number }[] };
      const modeOf = ({ path, size }: { path: string; size: number }) =>
        path.endsWith('.onnx') || size >= LFS_BYTES ? 'lfs' : 'regular';
      return json({ files: files.map((file) => ({ path: file.path, uploadMode: modeOf(file) })) });
    }
    if (verb === 'batch') {
      const { objects } = JSON.parse(String(body)) as { objects: { oid: string; size: number }[] };
      return json({
        transfer: 'basic',
        objects: objects.map(({ oid, size }) => ({
          oid,
          size,
          actions: { upload: { href: `${url}/storage/${oid}`, header: {} } },
        })),
      });
    }
    commitTo(name, String(body));
    const oid = commitOf(repos[name]!);
    return json({ commitOid: oid, commitUrl: `${url}/${name}/commit/${oid}`, hookOutput: '' });
  }

  function create(
    asked: { name: string; organization?: string; visibility?: string },
    token: string | undefined,
    response: ServerResponse,
  ) {
    if (token !== TOKEN) return fail(response, 401, '', 'Invalid credentials');
    const name = `${asked.organization ?? 'me'}/${asked.name}`;
    if (repos[name] !== undefined) return fail(response, 409, '', 'You already created this model repo');
    repos[name] = { files: {}, isPrivate: asked.visibility === 'private' };
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ url: `${url}/${name}` }));
  }

  /** One JSON object a line: the header, then files, large ones by their hashes. */
  function commitTo(name: string, body: string): void {
    for (const { key, value } of body.split('\n').map((line) => JSON.parse(line))) {
      if (key === 'file') repos[name]!.files[value.path] = Buffer.from(value.content, value.encoding);
      if (key !== 'lfsFile') continue;
      const bytes = uploads.get(value.oid);
      if (bytes === undefined || sha256(bytes) !== value.oid || bytes.byteLength !== value.size)
        throw new Error(`${value.path} was not uploaded`);
      repos[name]!.files[value.path] = bytes;
    }
  }

  function listTree(request: IncomingMessage, { files }: HubRepo, json: (value: unknown, headers?: object) => void) {
    const { searchParams, pathname } = new URL(request.url!, url);
    const entries = Object.entries(files).map(([path, bytes]) => ({
      type: 'file',
      path,
      size: bytes.byteLength,
      oid: gitBlob(bytes),
      ...(isLarge(path, bytes) && { lfs: { oid: sha256(bytes), size: bytes.byteLength, pointerSize: 130 } }),
    }));
    const all = [{ type: 'directory', path: 'onnx', size: 0, oid: '0' }, ...entries, ...(faults.listed ?? [])];
    const start = Number(searchParams.get('cursor') ?? 0);
    if (faults.endless !== undefined) {
      const cursor = faults.endless === 'same' ? 1 : start + 1;
      return json(start === 0 ? all : [], {
        link: `<${url}${pathname}?recursive=true&cursor=${cursor}>; rel="next"`,
      });
    }
    const end = start + (faults.pageSize ?? PAGE_SIZE);
    const next = `<${faults.nextPages ?? url}${pathname}?recursive=true&cursor=${end}>; rel="next"`;
    json(all.slice(start, end), end < all.length ? { link: next } : {});
  }

  function send(request: IncomingMessage, response: ServerResponse, path: string, whole: Uint8Array): void {
    const bytes = faults.wrong?.[path] ?? whole;
    if (faults.noRanges === 'refused' && request.headers.range) return void response.writeHead(416).end();
    const range = faults.noRanges ? undefined : /^bytes=(\d+)-$/.exec(request.headers.range ?? '');
    const start = Number(range?.[1] ?? 0);
    const rest = bytes.subarray(start);
    response.writeHead(range ? 206 : 200, {
      'content-length': rest.byteLength,
      'accept-ranges': 'bytes',
      ...(range && { 'content-range': `bytes ${start}-${bytes.byteLength - 1}/${bytes.byteLength}` }),
    });
    const cut = faults.cuts?.[path];
    if (cut === undefined || cut.times === 0) return void response.end(rest);
    cut.times -= 1;
    response.write(rest.subarray(0, cut.after), () => {
      if (!cut.isHeld) setTimeout(() => response.destroy(), 20);
    });
  }

  return {
    url,
    repos,
    faults,
    requests,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function fail(response: ServerResponse, status: number, code: string, message: string): void {
  if (response.headersSent) return void response.destroy();
  response
    .writeHead(status, {
      'content-type': 'application/json',
      ...(code !== '' && { 'x-error-code': code, 'x-error-message': message }),
    })
    .end(JSON.stringify({ error: message }));
}

async function read(request: IncomingMessage): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of request) pieces.push(piece);
  return Buffer.concat(pieces);
}
