import { axisX, axisY, barY, dot, gridY, lineY, link, type Markish, ruleY } from '@observablehq/plot';
import { formatExactPercent, formatPercent } from '../format-quantity.js';
import type { ModuleReport, PruneReport } from '../report-schema.js';
import { numbers, words } from '../table-columns.js';
import { costsFigure } from './costs-figure.js';
import { h, section, table } from './dom.js';
import { axisName, blockTicks, figure } from './figure.js';
import { formatCondition } from './format-condition.js';

const UNITS = { ffn: 'FFN neurons', attention: 'attention heads', experts: 'experts' } as const;
const NAMES = { ffn: 'FFN', attention: 'Attention', experts: 'Experts' } as const;

/** Widths, sparsity, block change and output errors, block by block. */
export function blocksSection(report: PruneReport): HTMLElement {
  const kinds = (['ffn', 'attention', 'experts'] as const).filter((kind) =>
    report.modules.some((module) => module.kind === kind),
  );
  const hasErrors = report.modules.some(({ error }) => error !== undefined);
  const hasChange = report.blocks.some(({ change }) => change !== undefined);
  return section(
    'blocks',
    'Removed units by block',
    h(
      'p',
      {},
      `The model is a stack of blocks, each an attention and a feed-forward network (FFN)${kinds.includes('experts') ? ', some of which are mixtures of experts' : ''}. ` +
        `Whole heads${kinds.includes('experts') ? ', whole neurons and whole experts' : ' and whole neurons'} ` +
        'were removed; the remaining weights are dense, so every runtime gains from it.',
    ),
    ...kinds.map((kind) => widthsFigure(report, kind)),
    hasChange && changeFigure(report),
    costsFigure(report),
    hasErrors && h('h3', {}, 'Error of each module on the calibration text'),
    ...(hasErrors ? kinds.map((kind) => errorsFigure(report, kind)) : []),
  );
}

const blockAxis = (blockCount: number, width: number): Markish =>
  axisX({ ticks: blockTicks(blockCount, width), label: 'block', labelAnchor: 'right', tickSize: 3 });

/** Bars of remaining units, with removed ones above. */
function widthsFigure(report: PruneReport, kind: ModuleReport['kind']): HTMLElement {
  const modules = report.modules.filter((module) => module.kind === kind);
  const bars = modules.flatMap(({ block, unitsBefore, unitsAfter, sparsity }) => [
    { block, part: 'kept', from: 0, to: unitsAfter, sparsity },
    { block, part: 'removed', from: unitsAfter, to: unitsBefore, sparsity },
  ]);
  const most = Math.max(...modules.map(({ unitsBefore }) => unitsBefore));
  return figure({
    caption: `${UNITS[kind][0]!.toUpperCase()}${UNITS[kind].slice(1)} kept and removed in each block.`,
    legend: [
      ['kept', kind],
      ['removed', 'removed'],
    ],
    table: modulesTable(report, kind),
    draw: (width) => ({
      height: kind === 'ffn' ? 220 : 160,
      marginLeft: 48,
      marginBottom: 36,
      x: { type: 'band', domain: report.blocks.map(({ index }) => index), padding: 0.15 },
      y: { domain: [0, most], label: null },
      marks: [
        gridY({ ticks: 4 }),
        axisY({ ticks: 4, ...axisName(UNITS[kind]), tickSize: 0 }),
        blockAxis(report.blocks.length, width),
        barY(bars, {
          filter: ({ from, to }) => to > from,
          x: 'block',
          y1: 'from',
          y2: 'to',
          fill: ({ part }) => (part === 'kept' ? `var(--${kind})` : 'var(--removed)'),
          channels: {
            block: 'block',
            part: 'part',
            count: ({ from, to }) => to - from,
            sparsity: ({ sparsity }) => formatPercent(sparsity),
          },
          tip: { format: { x: false, y: false, fill: false } },
        }),
        ruleY([0], { stroke: 'var(--line)' }),
      ],
    }),
  });
}

function modulesTable({ modules, blocks }: PruneReport, kind: ModuleReport['kind']): HTMLElement {
  const rows = modules.filter((module) => module.kind === kind);
  const hasChange = blocks.some(({ change }) => change !== undefined);
  const hasErrors = rows.some(({ error }) => error !== undefined);
  const hasNumerics = rows.some(({ numerics, groups }) => numerics ?? groups?.some((group) => group.numerics));
  return table(
    `${UNITS[kind]} by block`,
    [
      ...words('block'),
      ...numbers('before', 'after', 'parameters removed'),
      ...(kind === 'ffn' ? [] : words(kind === 'attention' ? 'heads kept' : 'experts kept')),
      ...(hasChange ? numbers('block change') : []),
      ...(hasErrors ? numbers('lost, unrepaired', 'lost, repaired') : []),
      ...(hasNumerics ? numbers('condition', 'dampening') : []),
    ],
    rows.map((module) => [
      String(module.block),
      widthOf(module.unitsBefore, module.neurons?.before),
      widthOf(module.unitsAfter, module.neurons?.after),
      formatPercent(module.sparsity),
      ...(kind === 'ffn' ? [] : [module.keep.join(', ')]),
      ...(hasChange ? [formatChange(blocks[module.block]?.change)] : []),
      ...(hasErrors
        ? [
            module.error ? formatPercent(module.error.before) : '',
            module.error ? formatPercent(module.error.after) : '',
          ]
        : []),
      ...(hasNumerics ? numericsCells(module) : []),
    ]),
  );
}

/** Number of units, and the width of experts from which neurons were removed. */
const widthOf = (units: number, neurons: number | undefined): string =>
  neurons === undefined ? String(units) : `${units} of ${neurons} neurons`;

/** The largest condition and dampening among a module's groups. */
function numericsCells({ numerics, groups = [] }: ModuleReport): readonly [string, string] {
  const all = [numerics, ...groups.map((group) => group.numerics)].filter((found) => found !== undefined);
  if (all.length === 0) return ['', ''];
  const condition = Math.max(...all.map((found) => found.condition));
  return [formatCondition(condition), String(Math.max(...all.map((found) => found.dampening)))];
}

const formatChange = (change: number | undefined): string => change?.toFixed(3) ?? '';

function changeFigure({ blocks }: PruneReport): HTMLElement {
  return figure({
    caption:
      'How much each dense block changes its input (1 minus the mean cosine). Blocks that change it much are ' +
      'hardly pruned by the adaptive rule.',
    table: table(
      'Block change',
      [...words('block'), ...numbers('change')],
      blocks.map(({ index, change }) => [String(index), formatChange(change)]),
    ),
    draw: (width) => ({
      height: 150,
      marginLeft: 48,
      marginBottom: 36,
      x: { type: 'point', domain: blocks.map(({ index }) => index), padding: 0.5 },
      y: { zero: true, nice: true, label: null },
      marks: [
        gridY({ ticks: 3 }),
        axisY({ ticks: 3, ...axisName('block change'), tickSize: 0 }),
        blockAxis(blocks.length, width),
        lineY(blocks, { x: 'index', y: 'change', stroke: 'var(--muted)' }),
        dot(blocks, {
          x: 'index',
          y: 'change',
          r: 3.5,
          fill: 'var(--muted)',
          channels: { block: 'index', 'block change': ({ change }) => formatChange(change) },
          tip: { format: { x: false, y: false } },
        }),
      ],
    }),
  });
}

/** Output errors of modules before and after the repair. */
function errorsFigure(report: PruneReport, kind: ModuleReport['kind']): HTMLElement | undefined {
  const rows = report.modules.flatMap(({ block, kind: moduleKind, error }) =>
    moduleKind === kind && error !== undefined ? [{ block, ...error }] : [],
  );
  if (rows.length === 0) return undefined;
  const isEstimate = rows.some(({ basis }) => basis === 'moments');
  return figure({
    caption:
      `${NAMES[kind]}: squared error of the output relative to the squared output, before and after the ` +
      `repair${isEstimate ? ' (estimated: this method measures no correlations between channels)' : ''}. Lower is better.`,
    legend: [
      ['before repair', 'dense'],
      ['after repair', 'pruned'],
    ],
    table: table(
      `${NAMES[kind]}: output errors by block`,
      [...words('block'), ...numbers('before repair', 'after repair')],
      rows.map(({ block, before, after }) => [String(block), formatPercent(before), formatPercent(after)]),
    ),
    draw: (width) => ({
      height: 200,
      marginLeft: 48,
      marginBottom: 36,
      x: { type: 'point', domain: report.blocks.map(({ index }) => index), padding: 0.5 },
      y: { zero: true, nice: true, label: null },
      marks: [
        gridY({ ticks: 4 }),
        axisY({
          ticks: 4,
          ...axisName('error'),
          tickSize: 0,
          tickFormat: (value: number) => formatExactPercent(value),
        }),
        blockAxis(report.blocks.length, width),
        link(rows, { x: 'block', y1: 'before', y2: 'after', stroke: 'var(--line)', strokeWidth: 3 }),
        dot(rows, { x: 'block', y: 'before', r: 4, fill: 'var(--dense)' }),
        dot(rows, {
          x: 'block',
          y: 'after',
          r: 4,
          symbol: 'diamond2',
          fill: 'var(--pruned)',
          channels: {
            block: 'block',
            before: ({ before }) => formatPercent(before),
            after: ({ after }) => formatPercent(after),
          },
          tip: { format: { x: false, y: false } },
        }),
        ruleY([0], { stroke: 'var(--line)' }),
      ],
    }),
  });
}
