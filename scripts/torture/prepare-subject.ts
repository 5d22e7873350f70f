import { cpSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { nodePlatform } from '../../src/node/node-platform.js';
import { evaluateModels, observe } from '../../src/node.js';
import type { JobControl } from '../../src/progress.js';
import { eagerPlatform } from '../../test/support/eager-platform.js';
import {
  CALIBRATION,
  evaluateIn,
  generateIn,
  healIn,
  MODEL,
  PLACES,
  pruneCut,
  pruneIn,
  quantiseIn,
  TASKS,
  writeTexts,
} from './calls.js';
import { hashFolder } from './hash-folder.js';

/** Files derived from a valid model. */
export type Part = keyof typeof MAKING;

/** One row per part, after the parts that it needs. */
const MAKING = {
  texts: async (folder: string) => writeTexts(folder),
  pruned: (folder: string) =>
    pruneIn(folder, { out: join(folder, PLACES.pruned), recipe: join(folder, PLACES.recipe) }),
  beside: async (folder: string) =>
    cpSync(join(folder, PLACES.pruned, 'fang-prune-report.json'), join(folder, PLACES.beside)),
  statistics: (folder: string) =>
    observe({
      model: join(folder, MODEL),
      out: join(folder, PLACES.statistics),
      method: 'o-fang',
      calibration: CALIBRATION,
    }),
  async measured(folder: string) {
    const models = [MODEL, PLACES.pruned].map((name) => join(folder, name));
    const measured = { models: await evaluateModels({ models, tasks: [join(folder, TASKS)] }), comparisons: [] };
    writeFileSync(join(folder, PLACES.measured), JSON.stringify(measured));
  },
  windows: (folder: string) => generateIn(folder),
  scores: (folder: string) => evaluateIn(folder),
  quantised: (folder: string) => quantiseIn(folder),
  healed: (folder: string) => healIn(folder),
  async journals(folder: string) {
    await pruneCut(folder);
    writeFileSync(join(folder, PLACES.undisturbed), hashFolder(join(folder, PLACES.cut)));
    rmSync(join(folder, PLACES.cut), { recursive: true });
    await cutOff(folder, PLACES.cut, 0.3);
    await cutOff(folder, PLACES.foreign, 0.2);
  },
} as const satisfies Readonly<Record<string, (folder: string) => Promise<unknown>>>;

/** Inputs of a part. */
const NEEDED: Readonly<Partial<Record<Part, readonly Part[]>>> = {
  beside: ['pruned'],
  measured: ['pruned'],
  healed: ['pruned'],
};

/** Writes the files derived from a valid model, as far as possible: not every model can be pruned. */
export async function prepareSubject(folder: string, parts: ReadonlySet<Part>): Promise<void> {
  const all = new Set<Part>(['texts', ...[...parts].flatMap((part) => [part, ...(NEEDED[part] ?? [])])]);
  for (const [part, make] of Object.entries(MAKING)) {
    if (!all.has(part as Part)) continue;
    try {
      await make(folder);
    } catch (error) {
      if (!(error instanceof Error && 'code' in error)) throw error;
    }
  }
}

/** Creates the workspace of an aborted run. */
async function cutOff(folder: string, name: string, sparsity: number): Promise<void> {
  const abortion = new AbortController();
  const control: JobControl = {
    signal: abortion.signal,
    onProgress({ stage, done, total = 0 }) {
      if (stage === 'prune' && done > 0.7 * total) abortion.abort();
    },
  };
  await pruneCut(folder, { control, platform: eagerPlatform(nodePlatform), sparsity, name }).catch((error: unknown) => {
    if (!abortion.signal.aborted) throw error;
  });
}
