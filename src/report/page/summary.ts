import { meanPerplexity } from '../build-ladder.js';
import { changeOf, describeChange, isNoise } from '../describe-change.js';
import { describeQuality, qualityMetrics, qualityPerplexity } from '../describe-quality.js';
import { formatDivergence, formatFigure, formatPerplexity } from '../format-figure.js';
import { formatBytes, formatCount, formatDuration, formatExactPercent, formatPercent } from '../format-quantity.js';
import type { MetricReport, PruneReport } from '../report-schema.js';
import { numbers, words } from '../table-columns.js';
import { h, section, table } from './dom.js';
import { trainingsOf } from './healing.js';
import { perplexityFigure } from './perplexity-figure.js';
import { shortName, shortNames } from './short-names.js';

/** Summary of the report: a sentence and a few large figures. */
export function header(report: PruneReport): HTMLElement {
  const { sparsity, parameters, bytes, method } = report;
  const sentence =
    `Of the parameters that can be pruned ${formatPercent(sparsity.achieved)} were removed (requested: ` +
    `${formatExactPercent(sparsity.requested)}), ${formatPercent(sparsity.ofAllParameters)} of all. The rest was repaired ` +
    `on calibration text; ${trainingsOf(report).length === 0 ? 'nothing was trained' : 'then it was trained on the dense model'}.`;
  const tiles = [
    tile('Parameters', formatCount(parameters.before), formatCount(parameters.after), changeOf(parameters)),
    tile('File size', formatBytes(bytes.before), formatBytes(bytes.after), changeOf(bytes)),
    ...perplexityTile(report),
    ...speedTiles(report),
    ...(report.timings.length === 0
      ? []
      : [tile('Time taken', '', formatDuration(report.timings.reduce((sum, { ms }) => sum + ms, 0)), method)]),
  ];
  return h(
    'header',
    {},
    h('p', { class: 'kicker' }, 'Pruning report'),
    h('h1', {}, shortName(report.model)),
    h('p', { class: 'lead' }, sentence),
    report.quality && h('p', { class: 'lead', id: 'quality' }, describeQuality(report.quality)),
    h('dl', { class: 'tiles' }, ...tiles),
    noiseNote(report),
    certificateNote(report),
    report.remarks.length > 0 &&
      h(
        'div',
        { class: 'note' },
        h('h2', {}, 'Remarks'),
        h('ul', {}, ...report.remarks.map((remark) => h('li', {}, remark))),
      ),
  );
}

/** Perplexity of one text, or the mean over several; no tile if no text changed by more than noise. */
function perplexityTile(report: PruneReport): HTMLElement[] {
  const found = perplexitiesOf(report);
  if (found.every(isNoise)) return [];
  const mean = (of: 'dense' | 'pruned') =>
    meanPerplexity({
      perplexities: found.map(({ name, protocol, [of]: perplexity }) => ({
        text: name,
        perplexity: perplexity!,
        ...(protocol && { protocol }),
      })),
    });
  const [before, after] = [mean('dense'), mean('pruned')];
  if (before === undefined || after === undefined) return [];
  const [first] = found;
  const [name, change] =
    found.length === 1
      ? [shortName(first!.name), describeChange(first!)]
      : [`mean of ${found.length} texts`, changeOf({ before, after })];
  return [tile(`Perplexity, ${name}`, formatPerplexity(before), formatPerplexity(after), change)];
}

/** Perplexities of the texts, or else of the held-out windows. */
function perplexitiesOf({ metrics = [], quality }: PruneReport): readonly MetricReport[] {
  const texts = metrics.filter(({ kind, dense }) => kind === 'perplexity' && dense !== undefined);
  return texts.length === 0 && quality !== undefined ? [qualityPerplexity(quality)] : texts;
}

function speedTiles({ metrics = [] }: PruneReport): HTMLElement[] {
  return metrics.flatMap((metric) => {
    if (!isSpeedOfBoth(metric) || isNoise(metric)) return [];
    const title = `${metric.name[0]!.toUpperCase()}${metric.name.slice(1)}, tokens/s`;
    return [tile(title, formatFigure(metric, 'dense'), formatFigure(metric, 'pruned'), describeChange(metric))];
  });
}

const isSpeedOfBoth = ({ kind, unit, dense }: MetricReport): boolean =>
  kind === 'speed' && unit === 'tokens/s' && dense !== undefined;

/** Figures that would have a tile if they differed by more than noise. */
function noiseNote(report: PruneReport): HTMLElement | undefined {
  const { metrics = [] } = report;
  const texts = perplexitiesOf(report);
  const found = [...(texts.every(isNoise) ? texts : []), ...metrics.filter(isSpeedOfBoth)].filter(isNoise);
  if (found.length === 0) return undefined;
  const names = shortNames(texts.map(({ name }) => name));
  const figures = found.map(
    (metric) => `${metricName(metric, names)} ${formatFigure(metric, 'dense')} → ${formatFigure(metric, 'pruned')}`,
  );
  return h('p', { class: 'small', id: 'noise' }, `No more than noise: ${figures.join('; ')}.`);
}

/** Note about the certificate. */
function certificateNote({ certificate }: PruneReport): HTMLElement | undefined {
  if (certificate === undefined) return undefined;
  const { gap, tokens, tolerance, opened } = certificate;
  return h(
    'p',
    { class: 'small', id: 'certificate' },
    h('strong', {}, opened ? 'Checked: ' : 'Compared, but not opened: '),
    opened ? 'opened by ONNX Runtime, ' : 'the reason is in the remarks. Run block by block, ',
    'the written model equals the dense model with the removed units set to zero and the same repairs. ' +
      `On ${tokens} tokens logits differ by at most ${gap.toExponential(1)} of their range; up to ` +
      `${tolerance.toExponential(1)} counts as rounding.`,
  );
}

function tile(name: string, before: string, after: string, below: string): HTMLElement {
  return h(
    'div',
    { class: 'tile' },
    h('dt', {}, name),
    h(
      'dd',
      {},
      before !== '' && h('span', { class: 'before' }, before, h('span', { 'aria-label': 'to' }, ' → ')),
      h('strong', {}, after),
      h('span', { class: 'below' }, below),
    ),
  );
}

/** Size, speed and quality side by side. */
export function costSection(report: PruneReport): HTMLElement {
  const { parameters, bytes, quality } = report;
  const metrics = [...(quality === undefined ? [] : qualityMetrics(quality)), ...(report.metrics ?? [])];
  const isMeasured = (...kinds: readonly string[]) => metrics.some(({ kind }) => kinds.includes(kind));
  const missing = MISSING.find(({ kinds }) => !isMeasured(...kinds));
  const sizes = [
    ['parameters', formatCount(parameters.before), formatCount(parameters.after), changeOf(parameters)],
    ['bytes on disk', formatBytes(bytes.before), formatBytes(bytes.after), changeOf(bytes)],
  ];
  const texts = shortNames(metrics.filter(({ kind }) => kind === 'perplexity').map(({ name }) => name));
  const rows = metrics.map((metric) => [
    metricName(metric, texts),
    metric.dense === undefined ? 'not measured' : formatFigure(metric, 'dense'),
    formatFigure(metric, 'pruned'),
    describeChange(metric),
  ]);
  const columns = [...words('figure'), ...numbers('dense', 'pruned', 'change')];
  const perplexities = metrics.filter(({ kind }) => kind === 'perplexity');
  const notes = [...new Set(metrics.flatMap(({ note }) => note ?? []))];
  return section(
    'cost',
    'Size, quality and speed',
    missing &&
      h(
        'p',
        {},
        `${missing.name} was not measured in this run. Measure it with `,
        h('code', {}, missing.command),
        ', and add the figures with ',
        h('code', {}, 'fang-prune report'),
        '.',
      ),
    table('Size, quality and speed of the dense and the pruned model', columns, [...sizes, ...rows], { stacks: true }),
    notes.length > 0 && h('p', { class: 'small' }, notes.join(' · ')),
    dtypeTable(report),
    perplexities.length > 0 && perplexityFigure(perplexities),
  );
}

/** Size and quality of each file of a model in other dtypes. */
function dtypeTable({ dtypes = [], bytes }: PruneReport): HTMLElement | undefined {
  if (dtypes.length === 0) return undefined;
  const rows = dtypes.map(({ dtype, bytes: after, quality }) => [
    dtype,
    formatBytes(after),
    changeOf({ before: bytes.before, after }),
    quality === undefined ? 'not measured' : formatPerplexity(quality.perplexity.pruned),
    quality === undefined ? '' : describeChange(qualityPerplexity(quality)),
    quality === undefined ? 'not measured' : formatDivergence(quality.divergence.mean),
    quality === undefined ? 'not measured' : formatPercent(quality.top1Agreement.mean),
  ]);
  const columns = [
    ...words('dtype'),
    ...numbers('bytes on disk', 'change', 'perplexity', 'change of it', 'divergence (nats)', 'same first choice'),
  ];
  return table('Size and quality of each dtype', columns, rows, { stacks: true });
}

/** Measurements that a run may lack, with the command that makes them. */
const MISSING = [
  { name: 'Quality', kinds: ['perplexity', 'accuracy', 'other'], command: 'fang-prune eval' },
  { name: 'Speed', kinds: ['speed'], command: 'fang-prune bench' },
] as const;

/** Unit that figures include: `1.2 GB`. */
const SHOWN_UNIT = 'bytes';

const KIND_NAMES: Readonly<Partial<Record<MetricReport['kind'], string>>> = {
  perplexity: 'perplexity',
  accuracy: 'accuracy',
};

function metricName({ kind, name, unit }: MetricReport, texts: ReadonlyMap<string, string>): string {
  const kindName = KIND_NAMES[kind];
  return `${kindName === undefined ? name : `${kindName}, ${texts.get(name) ?? name}`}${unit === undefined || unit === SHOWN_UNIT ? '' : ` (${unit})`}`;
}
