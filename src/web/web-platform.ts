import { sha256 } from '@noble/hashes/sha2';
import { bytesToHex } from '@noble/hashes/utils';
import { withoutLimit } from '../calibration/tokenizer.js';
import { EngineError, OptionError } from '../errors.js';
import type { JobControl } from '../progress.js';
import type { Engine, Session } from '../runtime/engine.js';
import { createOrtEngine } from '../runtime/ort-engine.js';
import { checkOwnEngine, type EngineChoice, type Files, type Platform } from '../runtime/platform.js';
import { tryEngine } from '../runtime/try-engine.js';
import type { DirectoryHandle } from './handle-folder.js';
import { nextTask } from './next-task.js';
import { randomName } from './random-name.js';
import { createMemoryScratch, createStoredScratch } from './scratch.js';
import { createWebFiles, HOME } from './web-files.js';
import { createWebHubStore, type WebHub } from './web-hub-store.js';
import type { WebPlace } from './web-place.js';
import { loadWebRuntime, type WebRuntime } from './web-runtime.js';
import { hasUnfinishedRun, openWorkspace } from './workspace.js';

export interface WebPlatformOptions {
  /** Folders by name, to read and to write. A path that begins with `/` begins with the name of one. Default: none. */
  readonly folders?: Readonly<Record<string, WebPlace>> | undefined;
  /**
   * Directory of the origin's private file system, for relative paths and, in workers, for scratch files; on the page's
   * thread scratch space is in memory. Default: none, and all paths begin with the name of a folder.
   */
  readonly home?: DirectoryHandle | undefined;
  /** Settings of ONNX Runtime Web. Default: those of the bundler and `ort.env`. */
  readonly runtime?: WebRuntime | undefined;
  /** Settings of the Hugging Face Hub; needs `home`. Default: public models. */
  readonly hub?: WebHub | undefined;
  /** Starts an engine if none is given. Default: ONNX Runtime Web on this thread. */
  readonly startEngine?: ((executionProviders: readonly string[]) => Promise<Engine>) | undefined;
  /** Prefix of names of incomplete files, to identify their run. Default: a random name. */
  readonly run?: string | undefined;
}

/**
 * The platform of a page or a worker: given folders, and ONNX Runtime Web.
 * @example
 * const platform = createWebPlatform({ folders: { dense: await showDirectoryPicker(), smaller: new Map() } });
 * await callOn(platform, 'prune', { model: '/dense', out: '/smaller', sparsity: 0.3 });
 */
export function createWebPlatform(options: WebPlatformOptions = {}): Platform {
  const { folders = {}, home, runtime = {}, hub, run = randomName() } = options;
  const { startEngine = (providers) => startRuntime(runtime, providers) } = options;
  const files = createWebFiles(folders, home, run);
  return {
    files,
    ...(globalThis.indexedDB !== undefined && createWorkspaces(files, { ...folders, [HOME]: home })),
    hub: home && createWebHubStore(home, hub),
    createScratch: async () => (home && (await createStoredScratch(home, run))) ?? createMemoryScratch(),
    createHash() {
      const hash = sha256.create();
      return { update: (bytes) => void hash.update(bytes), digest: () => bytesToHex(hash.digest()) };
    },
    createEngine: (choice) => createWebEngine(choice, startEngine),
    limitTime: withoutLimit,
    coreCount: globalThis.navigator?.hardwareConcurrency,
    describeMachine: () => ({ runtime: globalThis.navigator?.userAgent ?? 'unknown', platform: 'web' }),
    peakMemoryBytes: () => undefined,
  };
}

/** Workspaces of outputs in directories, the only ones that can be resumed. */
function createWorkspaces(
  { resolve }: Files,
  places: Readonly<Record<string, WebPlace | undefined>>,
): Pick<Platform, 'openWorkspace' | 'hasUnfinishedRun'> {
  const isDirectory = (output: string) => {
    const place = places[resolve(output).split('/')[1]!];
    return place !== undefined && 'getFileHandle' in place;
  };
  return {
    openWorkspace: async (request) =>
      isDirectory(request.output) ? openWorkspace({ ...request, output: resolve(request.output) }) : undefined,
    hasUnfinishedRun: async (output) => isDirectory(output) && hasUnfinishedRun(resolve(output)),
  };
}

async function createWebEngine(
  choice: EngineChoice & JobControl,
  start: NonNullable<WebPlatformOptions['startEngine']>,
): Promise<Engine> {
  checkOwnEngine(choice);
  const { executionProvider, threads, engine: given } = choice;
  if (threads !== undefined)
    throw new OptionError('threads is given, but graphs run in wasm: set ort.env.wasm.numThreads instead', {
      option: 'threads',
    });
  return yieldingEngine(given ?? (await start([executionProvider ?? 'wasm'].flat())), choice);
}

/** ONNX Runtime Web on this thread. @throws EngineError when it does not start, most often because its files are not found. */
export async function startRuntime(runtime: WebRuntime, executionProviders: readonly string[]): Promise<Engine> {
  const engine = createOrtEngine(await loadWebRuntime(runtime), { executionProviders });
  const failure = await tryEngine(engine);
  if (failure === undefined) return engine;
  throw new EngineError(
    `ONNX Runtime Web does not start on ${executionProviders.join(', ')}. Its .wasm file belongs next to its script, or where ` +
      `ort.env.wasm.wasmPaths (in a worker runtime.wasmPaths) points. ${failure}`,
  );
}

/**
 * Keeps a page responsive: before each call into the engine it yields to the event loop (clicks, frames, messages), and
 * an aborted run ends there.
 */
function yieldingEngine({ loadFile: _, ...engine }: Engine, { signal }: JobControl): Engine {
  const yieldToPage = async () => {
    await nextTask();
    signal?.throwIfAborted();
  };
  const yieldingSession = (session: Session): Session => ({
    ...session,
    async run(feeds, fetches) {
      await yieldToPage();
      return session.run(feeds, fetches);
    },
  });
  return {
    ...engine,
    async load(model, options) {
      await yieldToPage();
      return yieldingSession(await engine.load(model, options));
    },
  };
}
