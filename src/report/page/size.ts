import { axisX, axisY, dot, gridX, gridY, line, ruleX, text } from '@observablehq/plot';
import { describeMaps, frontierOf } from '../describe-size.js';
import { formatDivergence } from '../format-figure.js';
import { formatBytes, formatPercent } from '../format-quantity.js';
import type { PruneReport, SizeCandidateReport } from '../report-schema.js';
import { numbers, words } from '../table-columns.js';
import { h, section, table } from './dom.js';
import { axisName, figure } from './figure.js';

/** What was compared to meet a size: bytes against divergence, and what each model gave up. */
export function sizeSection({ size }: PruneReport): HTMLElement | undefined {
  if (size === undefined) return undefined;
  const { target, candidates } = size;
  const points = candidates
    .map((candidate) => ({ ...candidate, total: totalOf(candidate), name: nameOf(candidate) }))
    .sort((a, b) => b.bytes - a.bytes);
  const chosen = points.find((point) => point.chosen);
  return section(
    'size',
    'What else could be had',
    h(
      'p',
      {},
      `At most ${formatBytes(target)} were asked for. ${points.length} models were measured on held-out windows; ` +
        `taken was ${chosen?.name ?? 'none'} at ${formatBytes(chosen?.bytes ?? 0)}. All are drafts from a part of the calibration.`,
    ),
    table(
      'Models that were measured',
      [...words('model', 'weights'), ...numbers('removed', 'file size', 'from pruning', 'from rounding', 'divergence')],
      points.map((point) => [
        point.chosen ? h('strong', {}, `${point.name} (this one)`) : point.name,
        describeMaps(point),
        formatPercent(point.sparsity),
        formatBytes(point.bytes),
        formatDivergence(point.divergence.pruning),
        formatDivergence(point.divergence.quantising),
        formatDivergence(point.total),
      ]),
    ),
    points.length > 1 && frontierFigure(points, target),
  );
}

interface Point extends SizeCandidateReport {
  readonly total: number;
  readonly name: string;
}

const totalOf = ({ divergence: { pruning, quantising } }: SizeCandidateReport): number =>
  Math.max(LEAST, pruning + quantising);

/** The axis is logarithmic. */
const LEAST = 1e-5;

/** `q4`, `several dtypes`, `pruned q4`, `mixture`. */
function nameOf({ kind, maps }: SizeCandidateReport): string {
  const fewest = Object.keys(maps).at(-1) ?? 'floats';
  const names = { plain: fewest, bits: 'several dtypes', pruned: `pruned ${fewest}`, mixture: 'mixture' };
  return names[kind];
}

/** Divergence against size, both better when lower, with the size that was asked for. */
function frontierFigure(points: readonly Point[], target: number): HTMLElement {
  const frontier = frontierOf(points);
  return figure({
    caption:
      'Divergence from the dense model against file size, both better when lower. The line joins models that no smaller one betters; ' +
      'the dashed one is the size that was asked for.',
    legend: [
      ['taken', 'pruned'],
      ['others', 'dense'],
    ],
    tableName: 'Show the line',
    table: table(
      'Models that no smaller one betters',
      [...words('model'), ...numbers('file size', 'divergence')],
      frontier.map(({ name, bytes, total }) => [name, formatBytes(bytes), formatDivergence(total)]),
    ),
    draw: (width) => {
      const ticks = Math.max(2, Math.floor(width / 110));
      return {
        height: 300,
        marginLeft: 56,
        marginRight: 72,
        marginBottom: 36,
        x: { nice: true, inset: 10 },
        y: { type: 'log', label: null, inset: 10 },
        marks: [
          gridX({ ticks }),
          gridY({ ticks: 4 }),
          axisX({
            ticks,
            tickFormat: (bytes: number) => formatBytes(bytes),
            label: 'file size',
            labelAnchor: 'right',
          }),
          axisY({ ticks: 4, tickFormat: (value: number) => String(value), ...axisName('nats a token'), tickSize: 0 }),
          ruleX([target], { stroke: 'var(--muted)', strokeDasharray: '4 3' }),
          line(frontier, { x: 'bytes', y: 'total', stroke: 'var(--muted)' }),
          dot(points, {
            x: 'bytes',
            y: 'total',
            r: 5,
            fill: ({ chosen }: Point) => (chosen ? 'var(--pruned)' : 'var(--dense)'),
            channels: { model: 'name', weights: describeMaps },
            tip: { format: { x: false, y: false, fill: false } },
          }),
          text(points, { x: 'bytes', y: 'total', text: 'name', dx: 8, textAnchor: 'start', fill: 'var(--muted)' }),
        ],
      };
    },
  });
}
