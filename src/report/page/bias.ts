import { axisX, axisY, dot, gridX, link, ruleX } from '@observablehq/plot';
import type { ContextBias, LossPair } from '../../evaluation/measure-bias.js';
import { formatLoss } from '../format-figure.js';
import { formatPercent } from '../format-quantity.js';
import type { BiasReport, PruneReport } from '../report-schema.js';
import { numbers, words } from '../table-columns.js';
import { contextDetail, describedTokens } from './context-detail.js';
import { details, h, section, table } from './dom.js';
import { axisName, figure } from './figure.js';

/** Loss from pruning on the calibration text and on other texts, by context. */
export function biasSection({ bias = [] }: PruneReport): HTMLElement | undefined {
  if (bias.length === 0) return undefined;
  return section(
    'bias',
    'Loss on other texts than the calibration text',
    h(
      'p',
      {},
      'Pruning keeps the units that matter on its calibration text. Here both models read another text, and the loss from ' +
        'pruning is shown by context. In contexts that the calibration text hardly has, it can be large.',
    ),
    ...bias.flatMap(oneText),
  );
}

function oneText(bias: BiasReport): HTMLElement[] {
  const { name, calibration, text, warnings, overlap, uncovered, block } = bias;
  const overlapShare = overlap.tokenCount === 0 ? 0 : overlap.sharedCount / overlap.tokenCount;
  return [
    h('h3', {}, name),
    warnings.length > 0
      ? h(
          'div',
          { class: 'warning' },
          h('strong', {}, 'Warning'),
          h('ul', {}, ...warnings.map((warning) => h('li', {}, warning))),
        )
      : h('p', {}, 'Nothing suspicious: losses are in contexts of the calibration text, and the texts do not overlap.'),
    table(
      `Loss on the calibration text and on ${name}`,
      [...words('text'), ...numbers('tokens', 'loss, dense', 'loss, pruned', 'lost (nats per token)')],
      [lossRow('calibration', calibration), lossRow(name, text)],
    ),
    contextsFigure(bias),
    h(
      'p',
      { class: 'small' },
      `Contexts are clusters by the inputs of block ${block}'s FFN in the dense model. Contexts that the calibration hardly covers ` +
        `have ${formatPercent(uncovered.text)} of the text's tokens and ${formatPercent(uncovered.lost)} of its loss. ` +
        `${formatPercent(overlapShare)} of the text's tokens are in the calibration text too, in passages of ` +
        `${overlap.passageLength} tokens or more.`,
    ),
  ];
}

const lossRow = (name: string, losses: LossPair) => [
  name,
  String(losses.tokenCount),
  formatLoss(losses.dense),
  formatLoss(losses.pruned),
  gapWithError(losses),
];

const gap = ({ dense, pruned }: LossPair): number => pruned - dense;

function gapWithError(losses: LossPair): string {
  const error = losses.standardError === undefined ? '' : ` ± ${formatLoss(losses.standardError)}`;
  return `${formatLoss(gap(losses))}${error}`;
}

function contextsFigure({ contexts, described, calibration, text, name }: BiasReport): HTMLElement {
  const rows = contexts
    .map((found, context) => ({ ...found, context, name: `${context + 1}${found.covered ? '' : ' !'}` }))
    .filter((found) => found.text !== undefined || found.calibration !== undefined)
    .sort((one, other) => other.lostShare - one.lostShare);
  const points = rows.flatMap(({ calibration: ofCalibration, text: ofText, name: label }) => [
    ...(ofCalibration ? [{ label, of: 'calibration', lost: gap(ofCalibration) }] : []),
    ...(ofText ? [{ label, of: 'text', lost: gap(ofText) }] : []),
  ]);
  const links = rows.flatMap(({ calibration: ofCalibration, text: ofText, name: label }) =>
    ofCalibration && ofText ? [{ label, from: gap(ofCalibration), to: gap(ofText) }] : [],
  );
  return figure({
    caption:
      'Loss per token in each context, the largest share first. Contexts marked ! are hardly covered by the calibration.',
    legend: [
      ['calibration text', 'dense'],
      [name, 'pruned'],
    ],
    tableName: 'Show the numbers, and the tokens of each context',
    table: h(
      'div',
      {},
      table(
        `Losses by context, ${name}`,
        [
          ...words('context', 'characteristic tokens'),
          ...numbers('of calibration', 'of the text', 'lost, calibration', 'lost, text', 'share of the loss'),
          ...words('covered'),
        ],
        rows.map((row) =>
          contextRow(row, described[row.context] && describedTokens(described[row.context]), { calibration, text }),
        ),
      ),
      ...rows.map(({ context }) => {
        const about = described[context];
        const title = `Context ${context + 1}`;
        return about && details(title, ...contextDetail(about, `${title.toLowerCase()}, ${name},`));
      }),
    ),
    draw: (width) => ({
      height: 56 + 22 * rows.length,
      marginLeft: 40,
      marginTop: 24,
      marginBottom: 36,
      x: { nice: true, zero: true },
      y: { type: 'band', domain: rows.map((row) => row.name), label: null },
      marks: [
        gridX({ ticks: Math.max(2, Math.floor(width / 110)) }),
        axisX({
          ticks: Math.max(2, Math.floor(width / 110)),
          label: 'nats lost per token',
          labelAnchor: 'right',
        }),
        axisY({ tickSize: 0, ...axisName('context') }),
        ruleX([0], { stroke: 'var(--line)' }),
        link(links, { x1: 'from', x2: 'to', y1: 'label', y2: 'label', stroke: 'var(--line)', strokeWidth: 3 }),
        dot(points, {
          filter: ({ of }) => of === 'calibration',
          x: 'lost',
          y: 'label',
          r: 4.5,
          fill: 'var(--dense)',
        }),
        dot(points, {
          filter: ({ of }) => of === 'text',
          x: 'lost',
          y: 'label',
          r: 4.5,
          symbol: 'diamond2',
          fill: 'var(--pruned)',
          channels: { context: 'label', 'nats lost': ({ lost }) => formatLoss(lost) },
          tip: { format: { x: false, y: false } },
        }),
      ],
    }),
  });
}

function contextRow(
  row: ContextBias & { readonly context: number },
  about: string | undefined,
  totals: Pick<BiasReport, 'calibration' | 'text'>,
): string[] {
  const share = (ofCalibration: LossPair | undefined, of: LossPair) =>
    formatPercent((ofCalibration?.tokenCount ?? 0) / of.tokenCount);
  return [
    String(row.context + 1),
    about ?? '',
    share(row.calibration, totals.calibration),
    share(row.text, totals.text),
    row.calibration ? gapWithError(row.calibration) : '',
    row.text ? gapWithError(row.text) : '',
    formatPercent(row.lostShare),
    row.covered ? 'yes' : 'hardly',
  ];
}
