import { axisY, cell, type PlotOptions, ruleX, text } from '@observablehq/plot';
import { axisName } from './figure.js';

/** Neurons of similar use, or one expert. */
export interface HeatColumn {
  /** A line separates columns of different groups. */
  readonly group: number | undefined;
  /** Fraction of its units that remain. */
  readonly remainingFraction: number;
}

export interface HeatCell {
  readonly context: number;
  /** Index of its column. */
  readonly column: number;
  readonly value: number;
}

export interface ContextHeatMap<Cell extends HeatCell> {
  readonly columns: readonly HeatColumn[];
  readonly contextCount: number;
  readonly cells: readonly Cell[];
  /** Lines of a cell's tooltip, in addition to its context. */
  readonly channels: Readonly<Record<string, (found: Cell) => string>>;
  /** Names below columns. */
  readonly names: readonly { readonly column: number; readonly name: string }[];
}

/** Row of the remaining units, above the contexts. */
const REMAINING = -1;

/** Draws a row for each context, and one on top for remaining units; the stronger the colour, the larger the value. */
export function drawContexts<Cell extends HeatCell>(
  width: number,
  { columns, contextCount, cells, channels, names }: ContextHeatMap<Cell>,
): PlotOptions {
  const highest = Math.max(...cells.map(({ value }) => value), Number.MIN_VALUE);
  const borders = columns.flatMap(({ group }, at) => (at > 0 && columns[at - 1]!.group !== group ? [at] : []));
  return {
    height: 62 + 22 * (contextCount + 1),
    marginLeft: 36,
    marginRight: 4,
    marginTop: 24,
    marginBottom: 26,
    x: { type: 'band', axis: null, domain: columns.map((_, at) => at), padding: 0, round: false },
    y: {
      type: 'band',
      domain: Array.from({ length: contextCount + 1 }, (_, at) => at + REMAINING),
      padding: width > 500 ? 0.08 : 0.04,
      label: null,
    },
    opacity: { domain: [0, 1], range: [0.04, 1] },
    marks: [
      axisY({
        tickSize: 0,
        tickFormat: (at: number) => (at === REMAINING ? 'kept' : String(at + 1)),
        ...axisName('context'),
      }),
      cell(columns, { x: (_, at) => at, y: () => REMAINING, fill: 'var(--removed)', inset: 0 }),
      cell(columns, {
        x: (_, at) => at,
        y: () => REMAINING,
        fill: 'var(--ffn)',
        fillOpacity: 'remainingFraction',
        inset: 0,
      }),
      cell(cells, {
        x: 'column',
        y: 'context',
        fill: 'var(--heat)',
        // The square root makes small values visible.
        fillOpacity: ({ value }) => Math.sqrt(value / highest),
        inset: 0,
        channels: { ...channels, context: ({ context }: Cell) => context + 1 },
        tip: { format: { x: false, y: false, fillOpacity: false } },
      }),
      ruleX(borders, {
        x: (at: number) => at,
        stroke: 'var(--surface)',
        strokeWidth: 2,
        dx: -width / columns.length / 2,
      }),
      text(names, { x: 'column', text: 'name', frameAnchor: 'bottom', dy: 16, fill: 'var(--text)' }),
    ],
  };
}
