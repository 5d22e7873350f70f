import { sha256 } from '@noble/hashes/sha2';
import { bytesToHex } from '@noble/hashes/utils';
import { OptionError } from '../../errors.js';
import type { Engine } from '../../runtime/engine.js';
import { createOrtEngine } from '../../runtime/ort-engine.js';
import type { OrtModule } from '../../runtime/ort-module.js';
import { checkOwnEngine, type EngineChoice, type Platform } from '../platform.js';
import type { DirectoryHandle } from './handle-folder.js';
import { createMemoryScratch, createStoredScratch } from './scratch.js';
import { createWebFiles } from './web-files.js';
import type { WebPlace } from './web-place.js';

export interface WebPlatformOptions {
  /** Folders by name, to read and to write. A request names them: `{ model: 'dense', out: 'smaller' }`. */
  readonly folders: Readonly<Record<string, WebPlace>>;
  /**
   * Directory of the origin's private file system that scratch files go to. Default: scratch space is in memory, and so it is
   * outside of workers, where such files cannot be written in place.
   */
  readonly scratch?: DirectoryHandle | undefined;
}

/**
 * A page or a worker: folders that it was given, ONNX Runtime Web.
 * @example
 * const platform = createWebPlatform({ folders: { dense: await showDirectoryPicker(), smaller: new Map() } });
 * await runPrune(platform, { model: 'dense', out: 'smaller', sparsity: 0.3 });
 */
export function createWebPlatform({ folders, scratch }: WebPlatformOptions): Platform {
  return {
    files: createWebFiles(folders),
    createScratch: async () => (scratch && (await createStoredScratch(scratch))) ?? createMemoryScratch(),
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

async function createWebEngine(choice: EngineChoice): Promise<Engine> {
  checkOwnEngine(choice);
  const { executionProvider, threads, engine: given } = choice;
  if (threads !== undefined)
    throw new OptionError('threads is given, but graphs run in wasm: set ort.env.wasm.numThreads instead', {
      option: 'threads',
    });
  // Names of files mean nothing to it.
  const { loadFile: _, ...engine } = given ?? (await createOwnEngine([executionProvider ?? 'wasm'].flat()));
  return engine;
}

async function createOwnEngine(executionProviders: readonly string[]): Promise<Engine> {
  return createOrtEngine((await import('onnxruntime-web')) as unknown as OrtModule, { executionProviders });
}
