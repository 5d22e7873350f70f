import type { PruneRequest } from '../../src/node.js';

/** One row of a results table: how to prune (absent for the dense model). */
export interface Experiment {
  readonly id: string;
  /** Tables it stands in. */
  readonly tables: readonly string[];
  readonly options?: Omit<PruneRequest, 'model' | 'out'>;
  /** Multiple-choice tasks are measured too. */
  readonly tasks?: boolean;
}

const SPARSITIES = [0.2, 0.3, 0.4];
const percent = (sparsity: number) => `${Math.round(sparsity * 100)} %`;

const baselines = (['flap', 'wanda', 'magnitude', 'random'] as const).flatMap((method) =>
  SPARSITIES.map(
    (sparsity): Experiment => ({
      id: `${method} ${percent(sparsity)}`,
      tables: ['baselines'],
      options: { method, sparsity, modules: 'ffn' },
    }),
  ),
);

/** Everything that docs/results.md states, in the order of its tables. */
export const EXPERIMENTS: readonly Experiment[] = [
  { id: 'dense', tables: ['baselines', 'attention'], tasks: true },
  ...baselines,
  {
    id: 'flap 30 %, ffn + attention',
    tables: ['attention'],
    options: { method: 'flap', sparsity: 0.3, modules: 'all' },
  },
  {
    id: 'flap 30 %, global threshold',
    tables: ['attention'],
    options: { method: 'flap', sparsity: 0.3, modules: 'all', allocation: 'standardised' },
  },
];

/** Headings of the tables in docs/results.md. */
export const TABLES: Readonly<Record<string, string>> = {
  baselines: 'Methods that need no gradients, FFN neurons only',
  attention: 'FFN neurons and attention heads together',
};
