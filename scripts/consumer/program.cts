// Compiled against the shipped typings without those of a browser (see check-package.ts).
import { type PruneReport, prune } from 'fang-prune';
import { createOrtEngine, type Engine, type OrtModule } from 'fang-prune/core';

export async function pruneOn(ort: OrtModule): Promise<PruneReport> {
  const engine: Engine = createOrtEngine(ort);
  return prune({ model: 'dense', out: 'smaller', sparsity: 0.3, engine });
}
