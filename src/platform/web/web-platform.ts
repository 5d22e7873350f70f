import { sha256 } from '@noble/hashes/sha2';
import { bytesToHex } from '@noble/hashes/utils';
import { OptionError } from '../../errors.js';
import type { JobControl } from '../../progress.js';
import type { Engine } from '../../runtime/engine.js';
import { createOrtEngine } from '../../runtime/ort-engine.js';
import type { OrtModule } from '../../runtime/ort-module.js';
import { checkOwnEngine, type EngineChoice, type Platform } from '../platform.js';
import type { DirectoryHandle } from './handle-folder.js';
import { createMemoryScratch, createStoredScratch } from './scratch.js';
import { createWebFiles } from './web-files.js';
import type { WebPlace } from './web-place.js';
import { yieldingEngine } from './yielding-engine.js';

export interface WebPlatformOptions {
  /** Folders by name, to read and to write. A path that begins with `/` begins with the name of one. Default: none. */
  readonly folders?: Readonly<Record<string, WebPlace>> | undefined;
  /**
   * Directory of the origin's private file system. Other paths lie in it, and so do scratch files in workers; elsewhere those
   * cannot be written in place, and scratch space is in memory. Default: none, and all paths begin with the name of a folder.
   */
  readonly home?: DirectoryHandle | undefined;
}

/**
 * A page or a worker: folders that it was given, ONNX Runtime Web.
 * @example
 * const platform = createWebPlatform({ folders: { dense: await showDirectoryPicker(), smaller: new Map() } });
 * await runPrune(platform, { model: '/dense', out: '/smaller', sparsity: 0.3 });
 */
export function createWebPlatform({ folders = {}, home }: WebPlatformOptions = {}): Platform {
  return {
    files: createWebFiles(folders, home),
    createScratch: async () => (home && (await createStoredScratch(home))) ?? createMemoryScratch(),
    createHash() {
      const hash = sha256.create();
      return { update: (bytes) => void hash.update(bytes), digest: () => bytesToHex(hash.digest()) };
    },
    createEngine: createWebEngine,
    limitTime: (action) => action(),
    describeMachine: () => ({ runtime: globalThis.navigator?.userAgent ?? 'unknown', platform: 'web' }),
    peakMemoryBytes: () => undefined,
  };
}

async function createWebEngine(choice: EngineChoice & JobControl): Promise<Engine> {
  checkOwnEngine(choice);
  const { executionProvider, threads, engine: given } = choice;
  if (threads !== undefined)
    throw new OptionError('threads is given, but graphs run in wasm: set ort.env.wasm.numThreads instead', {
      option: 'threads',
    });
  return yieldingEngine(given ?? (await createOwnEngine([executionProvider ?? 'wasm'].flat())), choice);
}

async function createOwnEngine(executionProviders: readonly string[]): Promise<Engine> {
  return createOrtEngine((await import('onnxruntime-web')) as unknown as OrtModule, { executionProviders });
}
