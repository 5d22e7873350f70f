import { dot, line, ruleX, text } from '@observablehq/plot';
import { counted } from '../../counted.js';
import { isParetoOptimal, type ParetoPoint } from '../build-ladder.js';
import { describeDtypeCounts, describeTarget } from '../describe-size.js';
import { formatDivergence } from '../format-figure.js';
import { formatBytes, formatPercent } from '../format-quantity.js';
import type { PruneReport, SizeCandidateReport } from '../report-schema.js';
import { numbers, words } from '../table-columns.js';
import { h, section, table } from './dom.js';
import { figure, sizeAxes } from './figure.js';

/** Section of models that were compared for a size: bytes against divergence, and what was removed from each. */
export function sizeSection({ size }: PruneReport): HTMLElement | undefined {
  if (size === undefined) return undefined;
  const { target, contextLength, candidates } = size;
  const bytesName = contextLength === undefined ? 'file size' : 'file and cache';
  const points = candidates
    .map((candidate) => ({ ...candidate, loss: totalOf(candidate), name: nameOf(candidate) }))
    .sort((a, b) => b.bytes - a.bytes);
  const chosen = points.find((point) => point.chosen);
  return section(
    'size',
    'Other candidates',
    h(
      'p',
      {},
      `The requested size is at most ${describeTarget(size)}. Of ${counted(points.length, 'model')} compared on held-out windows, ` +
        `${chosen?.name ?? 'none'} at ${formatBytes(chosen?.bytes ?? 0)} was chosen. All are drafts from a part of the calibration windows.`,
    ),
    table(
      'Measured models',
      [...words('model', 'weights'), ...numbers('removed', bytesName, 'from pruning', 'from rounding', 'divergence')],
      points.map((point) => [
        point.chosen ? h('strong', {}, `${point.name} (this one)`) : point.name,
        describeDtypeCounts(point),
        formatPercent(point.sparsity),
        formatBytes(point.bytes),
        formatDivergence(point.divergence.pruning),
        formatDivergence(point.divergence.quantising),
        formatDivergence(point.loss),
      ]),
    ),
    points.length > 1 && frontierFigure(points, { target, bytesName }),
  );
}

interface Point extends SizeCandidateReport, ParetoPoint {
  readonly name: string;
}

const totalOf = ({ divergence: { pruning, quantising } }: SizeCandidateReport): number =>
  Math.max(MIN_DIVERGENCE, pruning + quantising);

/** Lower limit, since the axis is logarithmic. */
const MIN_DIVERGENCE = 1e-5;

/** `q4`, `mixed precision`, `pruned q4`, `mixture`. */
function nameOf({ kind, maps }: SizeCandidateReport): string {
  const fewest = Object.keys(maps).at(-1) ?? 'floats';
  const names = { plain: fewest, bits: 'mixed precision', pruned: `pruned ${fewest}`, mixture: 'mixture' };
  return names[kind];
}

/** Divergence against size, both better when lower, with the requested size. */
function frontierFigure(
  points: readonly Point[],
  { target, bytesName }: { readonly target: number; readonly bytesName: string },
): HTMLElement {
  const frontier = points.filter((point) => isParetoOptimal(point, points));
  return figure({
    caption:
      `Divergence from the dense model against ${bytesName}, both better when lower. The line joins the Pareto-optimal models; ` +
      'the dashed line is the requested size.',
    legend: [
      ['chosen', 'pruned'],
      ['others', 'dense'],
    ],
    tableName: 'Show the line',
    table: table(
      'Pareto-optimal models',
      [...words('model'), ...numbers(bytesName, 'divergence')],
      frontier.map(({ name, bytes, loss }) => [name, formatBytes(bytes), formatDivergence(loss)]),
    ),
    draw: (width) => {
      const { marks, ...axes } = sizeAxes(width, 'nats per token', bytesName);
      return {
        ...axes,
        marginLeft: 56,
        marginRight: 72,
        marks: [
          ...marks,
          ruleX([target], { stroke: 'var(--muted)', strokeDasharray: '4 3' }),
          line(frontier, { x: 'bytes', y: 'loss', stroke: 'var(--muted)' }),
          dot(points, {
            x: 'bytes',
            y: 'loss',
            r: 5,
            fill: ({ chosen }: Point) => (chosen ? 'var(--pruned)' : 'var(--dense)'),
            channels: { model: 'name', weights: describeDtypeCounts },
            tip: { format: { x: false, y: false, fill: false } },
          }),
          text(points, { x: 'bytes', y: 'loss', text: 'name', dx: 8, textAnchor: 'start', fill: 'var(--muted)' }),
        ],
      };
    },
  });
}
