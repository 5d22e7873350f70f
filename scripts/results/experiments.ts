import type { PruneRequest } from '../../src/node.js';

/** One row of a results table: how to prune (absent for the dense model). */
export interface Experiment {
  readonly id: string;
  /** Tables that list it. */
  readonly tables: readonly TableName[];
  readonly options?: Omit<PruneRequest, 'model' | 'out'>;
  /** Quantised by ONNX Runtime's Python tools instead of fang-prune, see `quantise_ort.py`. */
  readonly reference?: 'q4' | 'q8';
}

/** Headings of the tables, by the page they are on: methods on the results page, baselines and parts of methods in the notebook. */
export const TABLES = {
  results: {
    methods: 'FFN neurons only',
    attention: 'FFN neurons and attention heads together',
    healing: 'Healed on 64 windows that the dense model wrote',
    dtypes: 'Dtypes, dense and with FFN neurons removed by flap',
  },
  notebook: {
    baselines: 'Baselines that need no gradients, FFN neurons only',
    auto: 'The parts of auto at 30 %, FFN neurons only',
    ablation: 'The parts of o-fang at 30 %, FFN neurons only',
  },
} as const;

export type PageName = keyof typeof TABLES;

export type TableName = { [Page in PageName]: keyof (typeof TABLES)[Page] }[PageName];

/** Half the windows are the dense model's own, as is auto's default. */
const WRITTEN = { calibration: { generate: true } } as const;

const SPARSITIES = [0.3, 0.2, 0.4];
const percent = (sparsity: number) => `${Math.round(sparsity * 100)} %`;

/** Rows that the tables of a method's parts compare with. */
const WHOLE: Readonly<Record<string, readonly TableName[]>> = {
  'obc 30 %': ['ablation'],
  'o-fang 30 %': ['ablation'],
  'auto 30 %': ['auto'],
};

const heal = (method: string, sparsity: number, modules: 'ffn' | 'all'): Experiment => ({
  id: `${method} ${percent(sparsity)}${modules === 'all' ? ', ffn + attention' : ''}, healed`,
  tables: ['healing'],
  options: { method, sparsity, modules, heal: true, ...(method === 'auto' && WRITTEN) },
});

/** Healing of methods at every sparsity, and of FFNs and heads together. */
const healed: Experiment[] = [
  ...SPARSITIES.map((sparsity) => [sparsity, 'ffn'] as const),
  [0.3, 'all'] as const,
].flatMap(([sparsity, modules]) => ['flap', 'o-fang', 'auto'].map((method) => heal(method, sparsity, modules)));

const bySparsity = (table: TableName, methods: readonly string[]): Experiment[] =>
  SPARSITIES.flatMap((sparsity) =>
    methods.map((method) => {
      const id = `${method} ${percent(sparsity)}`;
      return {
        id,
        tables: [table, ...(WHOLE[id] ?? [])],
        options: { method, sparsity, modules: 'ffn', ...(method === 'auto' && WRITTEN) },
      };
    }),
  );

const ablation: readonly (readonly [string, Partial<PruneRequest>])[] = [
  ['obc + allocation', { method: 'obc', allocation: 'adaptive' }],
  [
    'obc + allocation + shared group',
    {
      method: 'obc',
      allocation: 'adaptive',
      grouping: { assignment: 'together' },
      weighting: { variant: 'uniform' },
    },
  ],
  ['o-fang, grouping random', { method: 'o-fang', grouping: { assignment: 'random' } }],
  ['o-fang, weighting uniform', { method: 'o-fang', weighting: { variant: 'uniform' } }],
  ['o-fang, weighting reverse', { method: 'o-fang', weighting: { variant: 'reverse' } }],
  ['o-fang, weighting only-matched', { method: 'o-fang', weighting: { variant: 'only-matched' } }],
];

const leftOut: readonly (readonly [string, Partial<PruneRequest>])[] = [
  ['auto, metric loss', { method: 'auto', metric: 'loss', ...WRITTEN }],
  ['auto, metric output', { method: 'auto', metric: 'output', ...WRITTEN }],
  ['auto, uniform', { method: 'auto', allocation: 'uniform', ...WRITTEN }],
  ['auto, dampening 0.01', { method: 'auto', dampening: 0.01, ...WRITTEN }],
  ['auto, without input steps', { method: 'auto', inputSteps: 0, ...WRITTEN }],
  ['auto, text alone', { method: 'auto', calibration: { generate: false } }],
];

const attention: readonly (readonly [string, Partial<PruneRequest>])[] = [
  ['flap', { method: 'flap' }],
  ['flap, global threshold', { method: 'flap', allocation: 'standardised' }],
  ['obc', { method: 'obc' }],
  ['f-fang', { method: 'f-fang' }],
  ['o-fang', { method: 'o-fang' }],
  ['auto', { method: 'auto', ...WRITTEN }],
];

/** Dense and pruned models in each dtype; removing nothing reads no token but to round. */
const dtypes: Experiment[] = [0, 0.1, 0.2, 0.3].flatMap((sparsity) => {
  const method = sparsity === 0 ? 'magnitude' : 'flap';
  const what = sparsity === 0 ? 'dense' : `flap ${percent(sparsity)}`;
  const form = (name: string, options: Partial<PruneRequest>): Experiment => ({
    id: `${what}, ${name}`,
    tables: ['dtypes'],
    options: { method, sparsity, modules: 'ffn', ...(sparsity > 0 && { widthMultiple: 32, ...WRITTEN }), ...options },
  });
  return [
    ...(sparsity === 0 ? [] : [form('fp32', {})]),
    form('fp16', { dtype: 'fp16' }),
    form('q8', { dtype: 'q8' }),
    form('q4', { dtype: 'q4', ...WRITTEN }),
    form('q4 to the nearest levels', { dtype: 'q4', rounding: 'nearest' }),
  ];
});

const wideBlocks: Experiment = {
  id: 'dense, q4, blocks of 64',
  tables: ['dtypes'],
  options: { method: 'magnitude', sparsity: 0, modules: 'ffn', dtype: 'q4', blockSize: 64, ...WRITTEN },
};

const references: Experiment[] = [
  { id: "dense, ONNX Runtime's quantize_dynamic", tables: ['dtypes'], reference: 'q8' },
  { id: "dense, ONNX Runtime's MatMulNBitsQuantizer", tables: ['dtypes'], reference: 'q4' },
];

/** Everything that docs/research/results.md and docs/research/measured-results.md state; the order is that of measuring. */
export const EXPERIMENTS: readonly Experiment[] = [
  { id: 'dense', tables: ['methods', 'baselines', 'auto', 'ablation', 'attention', 'healing', 'dtypes'] },
  ...bySparsity('methods', ['flap', 'obc', 'f-fang', 'o-fang', 'auto']),
  ...leftOut.map(
    ([id, options]): Experiment => ({ id, tables: ['auto'], options: { ...options, sparsity: 0.3, modules: 'ffn' } }),
  ),
  ...ablation.map(
    ([id, options]): Experiment => ({
      id,
      tables: ['ablation'],
      options: { ...options, sparsity: 0.3, modules: 'ffn' },
    }),
  ),
  ...attention.map(
    ([id, options]): Experiment => ({
      id: `${id} 30 %, ffn + attention`,
      tables: ['attention'],
      options: { ...options, sparsity: 0.3, modules: 'all' },
    }),
  ),
  ...healed,
  ...dtypes,
  wideBlocks,
  ...references,
  ...bySparsity('baselines', ['wanda', 'magnitude', 'random']),
];
