import { dot, line, type RenderFunction } from '@observablehq/plot';
import { isParetoOptimal, meanPerplexity, type ParetoPoint } from '../build-ladder.js';
import { formatPerplexity } from '../format-figure.js';
import { formatBytes, formatCount, formatExactPercent } from '../format-quantity.js';
import type { PruneReport, RungReport } from '../report-schema.js';
import { numbers, words } from '../table-columns.js';
import { h, section, table } from './dom.js';
import { figure, sizeAxes } from './figure.js';
import { placeLabels } from './place-labels.js';
import { shortNames } from './short-names.js';

/** A rung with its name and loss. */
interface Rung extends RungReport {
  readonly name: string;
  /** Whether the report is about it. */
  readonly isThis: boolean;
  readonly isDense: boolean;
  /** Mean perplexity, if measured. */
  readonly loss: number | undefined;
}

type MeasuredRung = Rung & ParetoPoint;

/** All models of a ladder with at least two rungs: their figures, and perplexity against size. */
export function ladderSection({ ladder = [], sparsity }: PruneReport): HTMLElement | undefined {
  if (ladder.length < 3) return undefined;
  const rungs = ladder.map((rung, at): Rung => {
    const isDense = at === 0;
    return {
      ...rung,
      name: isDense ? 'dense' : formatExactPercent(rung.requested),
      isThis: !isDense && rung.requested === sparsity.requested,
      isDense,
      loss: meanPerplexity(rung),
    };
  });
  const measured = rungs.filter((rung): rung is MeasuredRung => rung.loss !== undefined);
  return section(
    'ladder',
    'Other sparsities',
    h(
      'p',
      {},
      `The same measurements of the dense model gave ${ladder.length - 1} pruned ones. This report is about the one of ` +
        `${formatExactPercent(sparsity.requested).replace(' ', '\u00a0')}; take the smallest with acceptable quality.`,
    ),
    rungsTable(rungs, measured),
    measured.length > 1 && ladderFigure(measured),
  );
}

function rungsTable(rungs: readonly Rung[], measured: readonly MeasuredRung[]): HTMLElement {
  const columns = [
    ...words('sparsity'),
    ...numbers('file size'),
    ...(measured.length > 0 ? [...numbers('perplexity'), ...words('Pareto-optimal')] : []),
    ...numbers('parameters'),
  ];
  const rows = rungs.map((rung) => [
    rung.isThis ? h('strong', {}, `${rung.name} (this one)`) : rung.name,
    formatBytes(rung.bytes),
    ...(measured.length > 0 ? lossCells(rung, measured) : []),
    formatCount(rung.parameters),
  ]);
  return table('Models of the ladder', columns, rows);
}

function lossCells({ bytes, loss }: Rung, measured: readonly MeasuredRung[]): string[] {
  if (loss === undefined) return ['', ''];
  return [formatPerplexity(loss), isParetoOptimal({ bytes, loss }, measured) ? 'yes' : 'no'];
}

/** Perplexity against size: a faint line per text, and their mean. */
function ladderFigure(rungs: readonly MeasuredRung[]): HTMLElement {
  const paths = rungs[0]?.perplexities?.map((found) => found.text) ?? [];
  const texts = shortNames(paths);
  const names = [...texts.values()];
  const isMean = names.length > 1;
  const byText = rungs.flatMap(({ bytes, name, perplexities = [] }) =>
    perplexities.map((found) => ({ of: texts.get(found.text)!, bytes, name, loss: found.perplexity })),
  );
  const explanation = isMean
    ? `The strong line is the geometric mean over ${names.length} texts, the faint ones are the texts.`
    : `Measured on ${names[0]}.`;
  return figure({
    caption: `Perplexity against file size, both better when lower. ${explanation}`,
    legend: [
      ['dense', 'dense'],
      ['pruned', 'pruned'],
    ],
    tableName: 'Show the numbers, text by text',
    table: table(
      'Perplexity by text and sparsity',
      [...words('text'), ...numbers(...rungs.map(({ name }) => name))],
      names.map((name, at) => [
        name,
        ...rungs.map(({ perplexities }) => formatPerplexity(perplexities?.[at]?.perplexity ?? Number.NaN)),
      ]),
    ),
    draw: (width) => {
      const { marks, ...axes } = sizeAxes(width, 'perplexity');
      const channels = { bytes: ({ bytes }: ParetoPoint) => formatBytes(bytes), perplexity: perplexityOf };
      return {
        ...axes,
        marginLeft: 48,
        marginRight: 28,
        marginTop: 28,
        marks: [
          ...marks,
          ...(isMean
            ? [
                line(byText, { x: 'bytes', y: 'loss', z: 'of', stroke: 'var(--muted)', strokeOpacity: 0.4 }),
                dot(byText, {
                  x: 'bytes',
                  y: 'loss',
                  r: TEXT_RADIUS,
                  fill: 'var(--muted)',
                  channels: { text: 'of', sparsity: 'name', ...channels },
                  tip: { format: { x: false, y: false, fill: false } },
                }),
              ]
            : []),
          line(rungs, { x: 'bytes', y: 'loss', stroke: 'var(--pruned)', strokeWidth: 2 }),
          dot(
            rungs.filter(({ isDense }) => isDense),
            { x: 'bytes', y: 'loss', r: radiusOf, fill: 'var(--dense)' },
          ),
          dot(
            rungs.filter(({ isDense }) => !isDense),
            {
              x: 'bytes',
              y: 'loss',
              r: radiusOf,
              fill: 'var(--pruned)',
              symbol: 'diamond2',
              channels: { sparsity: 'name', ...channels },
              tip: { format: { x: false, y: false, r: false } },
            },
          ),
          rungLabels(rungs, isMean ? byText : []),
        ],
        r: { type: 'identity' },
      };
    },
  });
}

/** Radius of the faint dot of one text. */
const TEXT_RADIUS = 2;

const radiusOf = ({ isThis, isDense }: Rung): number => (isDense ? 6 : isThis ? 8 : 5);

/** Names of the rungs next to their points; those of this report's rung and the dense model are placed first. */
function rungLabels(rungs: readonly MeasuredRung[], others: readonly ParetoPoint[]): RenderFunction {
  return (_index, { x, y }, _values, { width, height, marginLeft, marginTop, marginBottom }, { document }) => {
    const rank = ({ isThis, isDense }: Rung) => (isThis ? 0 : isDense ? 1 : 2);
    const points = [...rungs]
      .sort((one, other) => rank(one) - rank(other))
      .map((rung) => ({ x: x!(rung.bytes), y: y!(rung.loss), radius: radiusOf(rung), label: rung.name }));
    const obstacles = others.map(({ bytes, loss }) => ({ x: x!(bytes), y: y!(loss), radius: TEXT_RADIUS }));
    const bounds = { left: marginLeft, top: marginTop - 12, right: width, bottom: height - marginBottom };
    const room = { bounds, obstacles, widthOf: (label: string) => CHARACTER_WIDTH * label.length };
    const make = (tag: string, attributes: Readonly<Record<string, string | number>>) => {
      const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
      for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
      return element;
    };
    const group = make('g', { class: 'labels' }) as SVGElement;
    for (const { point, isFar, ...at } of placeLabels(points, room)) {
      if (isFar) group.append(make('line', { x1: point.x, y1: point.y, x2: at.x, y2: at.y }));
      const text = make('text', at);
      text.textContent = point.label;
      group.append(text);
    }
    return group;
  };
}

/** Width of a wide character of 12 px. */
const CHARACTER_WIDTH = 7.5;

const perplexityOf = ({ loss }: Pick<ParetoPoint, 'loss'>): string => formatPerplexity(loss);
