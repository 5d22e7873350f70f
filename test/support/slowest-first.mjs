import { existsSync } from 'node:fs';
import { join, relative } from 'node:path';
import Sequencer from '@jest/test-sequencer';

/**
 * The files that take longest, slowest first: a long file that starts last leaves all cores but one idle. Jest knows their times
 * from earlier runs only, and CI has none.
 */
const SLOWEST = [
  'web/pages',
  'examples',
  'web/demo-page',
  'exporters',
  'pipeline/read-quantised',
  'prune-auto',
  'torture',
  'pipeline/resume',
  'report/page',
  'prune-inputs',
  'prune-golden-runs',
  'prune-experts',
  'healing/heal-model',
  'operators/gradients',
  'node/isolate',
  'pipeline/open-language-model',
  'prune-degenerate',
  'families',
  'pipeline/quantize',
  'pipeline/prune-bad-input',
  'pipeline/embeddings',
  'healing/memory',
  'node/benchmark',
  'pipeline/shrink',
  'pipeline/shards',
  'pipeline/prune-ladder',
  'prune-grid',
  'pipeline/statistics',
];

/** Runs the slowest test files first; the others follow in Jest's own order. */
export default class SlowestFirst extends Sequencer {
  sort(tests) {
    const rootDir = tests[0]?.context.config.rootDir;
    const places = new Map(SLOWEST.map((name, place) => [`test/${name}.test.ts`, place]));
    for (const file of places.keys())
      if (!existsSync(join(rootDir, file))) throw new Error(`${file} is gone; remove it from SLOWEST in this file`);
    const placeOf = ({ path, context }) => places.get(relative(context.config.rootDir, path)) ?? SLOWEST.length;
    return super.sort(tests).sort((one, other) => placeOf(one) - placeOf(other));
  }
}
