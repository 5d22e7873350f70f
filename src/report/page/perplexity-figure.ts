import { axisX, axisY, dot, gridX, link } from '@observablehq/plot';
import { formatPerplexity } from '../format-figure.js';
import type { MetricReport } from '../report-schema.js';
import { numbers, words } from '../table-columns.js';
import { table } from './dom.js';
import { axisName, figure } from './figure.js';
import { shortNames } from './short-names.js';

/** Perplexity of both models, a row per text. */
export function perplexityFigure(metrics: readonly MetricReport[]): HTMLElement {
  const texts = shortNames(metrics.map(({ name }) => name));
  const rows = metrics.flatMap(({ name, dense, pruned }) =>
    dense === undefined ? [] : [{ name: texts.get(name)!, dense, pruned }],
  );
  const all = rows.flatMap(({ dense, pruned }) => [dense, pruned]);
  const range = [Math.min(...all), Math.max(...all)] as const;
  const names = rows.map(({ name }) => name);
  const longest = Math.max(...names.map(({ length }) => length));
  return figure({
    caption: 'Perplexity by text: the number of equally likely tokens that the model chooses among. Lower is better.',
    legend: [
      ['dense', 'dense'],
      ['pruned', 'pruned'],
    ],
    table: table(
      'Perplexity by text',
      [...words('text'), ...numbers('dense', 'pruned')],
      rows.map(({ name, dense, pruned }) => [name, formatPerplexity(dense), formatPerplexity(pruned)]),
    ),
    draw: (width) => {
      const marginLeft = Math.min(width / 3, 16 + 7 * longest);
      return {
        height: 62 + 28 * rows.length,
        marginLeft,
        marginRight: 20,
        marginTop: 24,
        marginBottom: 36,
        x: { type: range[1] > 6 * range[0] ? 'log' : 'linear', label: 'perplexity', nice: true },
        y: { domain: names, label: null, type: 'band' },
        marks: [
          gridX({ ticks: Math.max(2, Math.floor(width / 110)) }),
          axisX({ ticks: Math.max(2, Math.floor(width / 110)), label: 'perplexity', labelAnchor: 'right' }),
          axisY({
            tickSize: 0,
            tickFormat: (name: string) => shorten(name, Math.floor((marginLeft - 10) / 7)),
            ...axisName('text'),
          }),
          link(rows, {
            x1: 'dense',
            x2: 'pruned',
            y1: 'name',
            y2: 'name',
            stroke: 'var(--line)',
            strokeWidth: 3,
          }),
          dot(rows, { x: 'dense', y: 'name', r: 5, fill: 'var(--dense)' }),
          dot(rows, {
            x: 'pruned',
            y: 'name',
            r: 5,
            fill: 'var(--pruned)',
            symbol: 'diamond2',
            channels: {
              dense: ({ dense }) => formatPerplexity(dense),
              pruned: ({ pruned }) => formatPerplexity(pruned),
            },
            tip: { format: { x: false } },
          }),
        ],
      };
    },
  });
}

function shorten(name: string, length: number): string {
  return name.length <= length ? name : `${name.slice(0, Math.max(1, length - 1))}…`;
}
