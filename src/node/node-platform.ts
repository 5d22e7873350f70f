import { createHash } from 'node:crypto';
import { availableParallelism, cpus } from 'node:os';
import type { Platform } from '../runtime/platform.js';
import { createHashCache } from './hash-cache.js';
import { createHubStore } from './hub-store.js';
import { createTimeLimit } from './limit-time.js';
import { memoryLimit, peakMemoryBytes } from './memory.js';
import { createNodeEngine } from './node-engine.js';
import { nodeFiles } from './node-files.js';
import { createSpillFile } from './spill-file.js';
import { hasUnfinishedRun, openWorkspace } from './workspace.js';

/** Runtime with version: Bun and Deno also report a version of Node.js. */
function describeRuntime({ bun, deno, node }: Readonly<Record<string, string | undefined>>): string {
  if (bun !== undefined) return `Bun ${bun}`;
  return deno === undefined ? `Node.js ${node}` : `Deno ${deno}`;
}

/** The Node.js platform: file system, temporary files, onnxruntime-node. */
export const nodePlatform: Platform = {
  files: nodeFiles,
  createScratch: () => createSpillFile(),
  openWorkspace,
  hasUnfinishedRun,
  // Read lazily: environment variables may be set later.
  get hub() {
    return createHubStore(process.env);
  },
  createHash() {
    const hash = createHash('sha256');
    return {
      update: (bytes) => void hash.update(bytes),
      digest: () => hash.digest('hex'),
    };
  },
  hashCache: createHashCache(),
  createEngine: createNodeEngine,
  limitTime: createTimeLimit(),
  coreCount: availableParallelism(),
  memoryBytes: memoryLimit(),
  describeMachine() {
    const cpu = cpus()[0]?.model.trim();
    return {
      runtime: describeRuntime(process.versions),
      platform: `${process.platform} ${process.arch}`,
      ...(cpu && { cpu }),
    };
  },
  peakMemoryBytes,
};
