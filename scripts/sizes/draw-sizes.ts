import { riseOf, sortRows } from './format-sizes.js';
import type { MeasuredSize, MeasuredSizes } from './measured-size.js';

const THEMES = {
  light: { text: '#1f2328', muted: '#59636e', grid: '#d1d9e0', series: ['#0969da', '#bc4c00', '#1a7f37', '#8250df'] },
  dark: { text: '#f0f6fc', muted: '#9198a1', grid: '#3d444d', series: ['#4493f8', '#db6d28', '#3fb950', '#ab7df8'] },
} as const;

/** Lines of the plot, and which rows each connects. */
const SERIES: readonly { readonly label: string; readonly variants: readonly string[] }[] = [
  { label: 'dtypes alone, blocks of 32', variants: ['q8', 'q4', 'bits alone, blocks of 32'] },
  { label: 'pruned, q4, blocks of 32', variants: ['pruned, q4, blocks of 32'] },
  { label: 'shrink', variants: ['shrink'] },
  { label: 'shrink, healed', variants: ['shrink, healed'] },
];

const [WIDTH, HEIGHT] = [760, 360];
const ROOM = { left: 56, right: 190, top: 24, bottom: 44 };
const LABEL = { width: 190, height: 17 };

/** Bytes against the rise of bits per byte, a line for each way to make a model smaller; an SVG that needs no script and no font. */
export function drawSizes(sizes: MeasuredSizes, theme: keyof typeof THEMES): string {
  const { text, muted, grid, series } = THEMES[theme];
  const dense = sizes.dense!;
  const rows = sortRows(sizes);
  const lines = SERIES.map(({ label, variants }) => ({
    label,
    rows: rows.filter(({ variant }) => variants.includes(variant)),
  })).filter((line) => line.rows.length > 0);
  const shown = lines.flatMap((line) => line.rows);
  const [most, highest] = [
    Math.max(...shown.map(({ bytes }) => bytes / 1e6)),
    Math.max(...shown.map((each) => 100 * riseOf(each, dense))),
  ];
  const [xs, ys] = [ticks(most), ticks(highest)];
  const least = xs.filter((value) => shown.every(({ bytes }) => bytes / 1e6 >= value)).at(-1) ?? 0;
  const [top, end] = [ys.at(-1)!, xs.at(-1)!];
  const x = (value: number) => round(ROOM.left + ((value - least) / (end - least)) * (WIDTH - ROOM.left - ROOM.right));
  const y = (value: number) => round(HEIGHT - ROOM.bottom - (value / top) * (HEIGHT - ROOM.top - ROOM.bottom));
  const place = (each: MeasuredSize) => [x(each.bytes / 1e6), y(100 * riseOf(each, dense))] as const;
  const label = (at: readonly [number, number], content: string, color: string, anchor = 'middle') =>
    `<text x="${at[0]}" y="${at[1]}" fill="${color}" text-anchor="${anchor}">${content}</text>`;
  const horizontal = ys.flatMap((value) => [
    `<path d="M${x(least)} ${y(value)}H${x(end)}" stroke="${grid}"/>`,
    label([ROOM.left - 8, y(value) + 4], `${value} %`, muted, 'end'),
  ]);
  const vertical = xs
    .filter((value) => value >= least)
    .map((value) => label([x(value), HEIGHT - ROOM.bottom + 18], `${value}`, muted));
  const labelled: (readonly [number, number])[] = [];
  /** Position of a line's label: next to its last point, below earlier labels. */
  const besides = ([px, py]: readonly [number, number]) => {
    let spot = [px + 12, py + 4] as const;
    const isTaken = ([ox, oy]: readonly [number, number]) =>
      Math.abs(ox - spot[0]) < LABEL.width && Math.abs(oy - spot[1]) < LABEL.height;
    for (let other = labelled.find(isTaken); other !== undefined; other = labelled.find(isTaken))
      spot = [spot[0], round(other[1] + LABEL.height)];
    labelled.push(spot);
    return spot;
  };
  const drawn = lines.flatMap((line, at) => {
    const points = line.rows.map(place);
    const color = series[at % series.length]!;
    const last = points.at(-1)!;
    return [
      `<path d="M${points.map((point) => point.join(' ')).join('L')}" stroke="${color}" stroke-width="2" fill="none"/>`,
      ...points.map(([px, py]) => `<circle cx="${px}" cy="${py}" r="4" fill="${color}"/>`),
      label(besides(last), line.label, color, 'start'),
    ];
  });
  const title = 'Size of the model file and rise of bits per byte on text unlike the calibration text';
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="system-ui, sans-serif" font-size="13" role="img" aria-label="${title}">`,
    ...horizontal,
    ...vertical,
    label([x((least + end) / 2), HEIGHT - 8], 'MB', muted),
    label([ROOM.left, 14], 'rise of bits per byte', text, 'start'),
    ...drawn,
    '</svg>',
    '',
  ].join('\n');
}

/** Round numbers from 0 to at least the most: steps of 1, 2 or 5 times a power of ten, six at most. */
function ticks(most: number): readonly number[] {
  const power = 10 ** Math.floor(Math.log10(most / 5));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => most / each <= 6)!;
  return Array.from({ length: Math.ceil(most / step) + 1 }, (_, at) => round(at * step));
}

const round = (value: number): number => Math.round(10 * value) / 10;
