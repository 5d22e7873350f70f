import { axisX, axisY, gridX, gridY, type PlotOptions, plot } from '@observablehq/plot';
import { formatBytes } from '../format-quantity.js';
import { type Child, details, h } from './dom.js';

export interface FigureOptions {
  /** Description of the figure in a sentence or two: caption, and text for screen readers. */
  readonly caption: string;
  /** Shown next to the caption. */
  readonly legend?: readonly (readonly [name: string, className: string])[];
  /** The numbers behind the plot. */
  readonly table: HTMLElement;
  readonly tableName?: string;
  /** Draws for a width in pixels. */
  draw(width: number): PlotOptions;
}

/** A plot that is drawn again when its width changes, with a table of its numbers below. */
export function figure({
  caption,
  legend = [],
  table,
  tableName = 'Show the numbers',
  draw,
}: FigureOptions): HTMLElement {
  const place = h('div', { class: 'plot' });
  let drawnWidth = 0;
  const redraw = (width: number) => {
    if (width < 1 || Math.abs(width - drawnWidth) < 1) return;
    drawnWidth = width;
    const drawn = plot({
      marginTop: TOP_MARGIN,
      style: { background: 'transparent', fontFamily: 'inherit' },
      ...draw(width),
      width,
    });
    // One label for the image instead of the library's labels of its parts.
    for (const part of Array.from(drawn.querySelectorAll('[aria-label]'))) part.removeAttribute('aria-label');
    drawn.setAttribute('role', 'img');
    drawn.setAttribute('aria-label', caption);
    place.replaceChildren(drawn);
  };
  new ResizeObserver(([entry]) => redraw(Math.floor(entry?.contentRect.width ?? 0))).observe(place);
  const keys: Child[] = legend.map(([name, className]) =>
    h('li', {}, h('span', { class: `key ${className}`, 'aria-hidden': 'true' }), name),
  );
  return h(
    'figure',
    {},
    h('figcaption', {}, caption),
    keys.length > 0 && h('ul', { class: 'legend' }, ...keys),
    place,
    details(tableName, table),
  );
}

/** Space for the name of a vertical axis above its highest tick. */
const TOP_MARGIN = 28;

/** Name of a vertical axis, above it. */
export const axisName = (label: string) => ({ label, labelAnchor: 'top', labelArrow: false }) as const;

/** Scales and axes of a plot against bytes: `label` is the name of the vertical axis, which is logarithmic. */
export function sizeAxes(width: number, label: string, bytesName = 'file size') {
  const ticks = Math.max(2, Math.floor(width / 110));
  return {
    height: 300,
    marginBottom: 36,
    x: { nice: true, inset: 10 },
    y: { type: 'log', label: null, inset: 10 },
    marks: [
      gridX({ ticks }),
      gridY({ ticks: 4 }),
      axisX({ ticks, tickFormat: (bytes: number) => formatBytes(bytes), label: bytesName, labelAnchor: 'right' }),
      axisY({ ticks: 4, tickFormat: (value: number) => String(value), ...axisName(label), tickSize: 0 }),
    ],
  } satisfies PlotOptions;
}

/** Tick labels for blocks: as many as fit. */
export function blockTicks(blockCount: number, width: number): number[] {
  const room = Math.max(2, Math.floor(width / 28));
  const step = Math.max(1, Math.ceil(blockCount / room));
  return Array.from({ length: blockCount }, (_, block) => block).filter((block) => block % step === 0);
}
