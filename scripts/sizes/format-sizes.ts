import type { MeasuredSize, MeasuredSizes } from './measured-size.js';
import { VARIANTS } from './variants.js';

/** Only this one resembles the calibration text. */
const LIKE_CALIBRATION = 'wiki';
/** Variants that answer other questions than the README's table: other vocabularies, other tools. */
const APART = new Set(VARIANTS.filter((each) => each.keepLanguages ?? each.command).map(({ name }) => name));

const HEAD = [
  '# Models of equal bytes',
  '',
  '`npm run sizes` writes this page; the figures are in `docs/results/sizes/*.json`.',
  '',
  '- Bits per byte are over 6 windows of 512 tokens of each text. Only *wiki* resembles the calibration text. *Rise*: how many more bits per',
  '  byte the other texts take than with the dense model, in percent, as a mean. *multilingual* has scripts that trimmed vocabularies lack.',
  '- *shrink* and *pruned, q4* are results of [`shrink`](../sizes.md), which could use `q8,q4,q2` or only 4 bits. They are calibrated on',
  '  windows of WikiText-2 train and as many that the model writes. *q4* has calibrated rounding, *q4, nearest* does not.',
  '- `q4/64` has blocks of 64 weights per scale, `q4` blocks of 32. *shrink* stores scales in float16, all others in float32, and rounds a table in',
  '  four bits by calibration. Rows with *blocks of 32* are of earlier code, which had only blocks of 32, scales in float32, and tables',
  '  rounded to the nearest levels. It allowed to remove multiples of 32 neurons; today those of SmolLM2 are multiples of 64.',
  '- *Tokens a second* are written one after the other, *prompt* is the time of 128 tokens, both with the threads that ONNX Runtime chooses.',
  '- Speeds were measured one after the other on two cores; those of *q4*, of *q4, blocks of 64* and of *blocks of 32* are of other sessions than the rest.',
  '  Sessions differ by up to a half: models of 60 MB wrote 41 and 63 tokens a second, *q4, nearest* 42 and 51. So compare speeds within a session only.',
  '- Linear layers in 8, 4 and 2 bits round activations to int8 ([accuracy level 4](../quantisation.md)), in quality and in speed.',
  '- *onnxsim* is `apply_structured_pruning` of onnxsim 0.8.1, which reads no text (`scripts/research/onnxsim-prune.py`).',
  '- *q2* has calibrated rounding and no certificate, which refuses it rounded to the nearest levels: int8 activations move its logits by 46 % of their range.',
  '- SmolLM2: down to 76 MB nothing is removed, at 60 MB a pruned model in 4 bits is best, at 45 MB a mixture. The drafts below show what bits',
  '  alone and pruning in one dtype would have been at each size. At 60 MB, *bits alone* takes 33 % more bits per byte and *shrink* 29 %; at 45 MB',
  '  bits alone are not enough, and *pruned, q4* takes 66 % more, *shrink* 65 %. Healed, *shrink* takes 23 % more at 60 MB and 47 % at 45 MB.',
  '- Gemma: at 150 and 120 MB nothing is removed either, at 90 MB a pruned model in 4 bits is best, and a mixture nearly as good.',
  '- With blocks of 32, *bits alone* at 76 MB took more bits per byte than pruned models, and had more items of the tasks right.',
  '- *healed*: trained on 64 windows that the dense model writes, before rounding; *shrink* trains scales after it too. At 85 MB, where 3.6 % is removed, no step',
  '  of it helped.',
  '- Tasks: 100 items of each, accuracies in percent by length-normalised likelihood; their standard error is 3 to 5.',
  "- SmolLM2 is a copy with reparametrised weights (`scripts/off-grid.ts`): the original's had been quantised to 4 bits once.",
  '',
];

const isHealed = (variant: string): boolean => variant.includes('healed');

/** The page with all that is stored. */
export function formatSizesPage(models: readonly (readonly [name: string, sizes: MeasuredSizes])[]): string {
  const tables = models.flatMap(([name, sizes]) => [`## ${name}`, '', ...tableOf(sizes), '', ...draftsOf(sizes)]);
  return [...HEAD, ...tables].join('\n');
}

/** Mean increase of bits per byte on texts unlike the calibration text, as a fraction of the dense model's. */
export function riseOf({ bitsPerByte }: MeasuredSize, dense: MeasuredSize): number {
  const unlike = Object.keys(dense.bitsPerByte).filter((text) => text !== LIKE_CALIBRATION);
  return unlike.reduce((sum, text) => sum + bitsPerByte[text]! / dense.bitsPerByte[text]! - 1, 0) / unlike.length;
}

/** The largest first; at one size, in the order of the variants. */
export function sortRows(sizes: MeasuredSizes): readonly MeasuredSize[] {
  const order = VARIANTS.map(({ name }) => name);
  const nominal = ({ target, bytes }: MeasuredSize) => (target === undefined ? bytes / 1e6 : Number.parseFloat(target));
  return Object.values(sizes).sort(
    (a, b) => nominal(b) - nominal(a) || order.indexOf(a.variant) - order.indexOf(b.variant),
  );
}

/** Fraction of the prunable parameters that was removed, and number of weights by dtype. */
export function describeMake({ removed, maps = {} }: Pick<MeasuredSize, 'removed' | 'maps'>): string {
  const dtypes = Object.entries(maps).map(([dtype, count]) => `${count} ${dtype}`);
  return [...(removed > 0 ? [`${percent(removed)} % removed`] : []), ...dtypes].join(', ');
}

const percent = (fraction: number): string => (100 * fraction).toFixed(fraction < 0.1 ? 1 : 0);
const megabytes = ({ bytes }: MeasuredSize): string => (bytes / 1e6).toFixed(1);
const row = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;

function tableOf(sizes: MeasuredSizes): string[] {
  const { dense } = sizes;
  if (dense === undefined) return [];
  const texts = [LIKE_CALIBRATION, ...Object.keys(dense.bitsPerByte).filter((text) => text !== LIKE_CALIBRATION)];
  const rows = sortRows(sizes);
  const tasks = [...new Set(rows.flatMap(({ tasks: known = {} }) => Object.keys(known)))];
  const isTimed = rows.some(({ speed }) => speed !== undefined);
  const head = [
    'MB',
    'model',
    'removed, weights by dtype',
    ...texts,
    'rise, %',
    ...tasks,
    ...(isTimed ? ['tokens a second', 'prompt, ms'] : []),
  ];
  const lines = rows.map((each) => [
    megabytes(each),
    each.variant,
    describeMake(each),
    ...texts.map((text) => each.bitsPerByte[text]?.toFixed(3) ?? ''),
    percent(riseOf(each, dense)),
    ...tasks.map((task) => (each.tasks?.[task] === undefined ? '' : (100 * each.tasks[task]).toFixed(1))),
    ...(isTimed ? [each.speed?.tokensPerSecond.toFixed(0) ?? '', each.speed?.promptMs.toFixed(0) ?? ''] : []),
  ]);
  return [head, head.map(() => '---'), ...lines].map(row);
}

/** Drafts that runs of `shrink` compared. */
function draftsOf(sizes: MeasuredSizes): string[] {
  // Drafts of the dense model in one dtype are the same for each size.
  const shown = new Set<string>();
  const lines = sortRows(sizes).flatMap(({ variant, target, candidates = [] }) =>
    candidates.flatMap(({ kind, bytes, sparsity, maps, divergence, predicted, chosen }) => {
      const key = JSON.stringify([variant, kind, bytes, maps]);
      if (shown.has(key)) return [];
      shown.add(key);
      return [
        [
          `${variant}, ${target}`,
          kind,
          (bytes / 1e6).toFixed(1),
          describeMake({ removed: sparsity, maps }),
          predicted?.toFixed(3) ?? '',
          `${chosen ? '**' : ''}${(divergence.pruning + divergence.quantising).toFixed(3)}${chosen ? '**' : ''}`,
        ],
      ];
    }),
  );
  if (lines.length === 0) return [];
  const head = ['run', 'draft', 'MB', 'removed, weights by dtype', 'predicted', 'measured'];
  return [
    'Drafts that were compared on held-out windows: divergence from the dense model, in nats per token. The chosen one is bold.',
    '',
    ...[head, head.map(() => '---'), ...lines].map(row),
    '',
  ];
}

/** The README's table: the best model of each size, and the best that is not healed. */
export function formatSummary(sizes: MeasuredSizes): string {
  const { dense } = sizes;
  if (dense === undefined) return '';
  const sorted = sortRows(sizes);
  const groups = [sorted, sorted.filter(({ variant }) => !isHealed(variant))];
  const isBest = (each: MeasuredSize, group: readonly MeasuredSize[]) =>
    group.includes(each) &&
    group.every((other) => other.target !== each.target || riseOf(each, dense) <= riseOf(other, dense));
  const rows = sorted.filter(
    (each) => !APART.has(each.variant) && (each.target === undefined || groups.some((group) => isBest(each, group))),
  );
  const head = ['MB', 'model', 'removed, weights by dtype', 'bits per byte, rise', 'tokens a second'];
  const lines = rows.map((each) => [
    megabytes(each),
    each.variant,
    describeMake(each),
    each === dense ? '' : `${percent(riseOf(each, dense))} %`,
    each.speed?.tokensPerSecond.toFixed(0) ?? '',
  ]);
  return `${[head, head.map(() => '---'), ...lines].map(row).join('\n')}\n`;
}
