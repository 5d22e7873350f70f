import { axisX, axisY, dot, gridY, line } from '@observablehq/plot';
import { counted } from '../../counted.js';
import type { HealingReport } from '../../healing/heal-model.js';
import { changeOf } from '../describe-change.js';
import { formatDivergence } from '../format-figure.js';
import { formatCount } from '../format-quantity.js';
import type { PruneReport } from '../report-schema.js';
import { h, section, table } from './dom.js';
import { axisName, figure } from './figure.js';

/** A training of a result: before rounding, or of a rounded dtype. */
interface Training {
  readonly dtype?: string;
  readonly healing: HealingReport;
}

/** All trainings of a result, in order. */
export const trainingsOf = ({ healing, dtypes = [] }: Pick<PruneReport, 'healing' | 'dtypes'>): Training[] => [
  ...(healing ? [{ healing }] : []),
  ...dtypes.flatMap(({ dtype, healing: own }) => (own ? [{ dtype, healing: own }] : [])),
];

/** Section about healing: divergence before and after each training, and its curve. */
export function healingSection(report: PruneReport): HTMLElement | undefined {
  const trainings = trainingsOf(report);
  return trainings.length === 0 ? undefined : section('healing', 'Healing', ...trainings.flatMap(describeTraining));
}

function describeTraining({ dtype, healing }: Training): HTMLElement[] {
  const { windowCount, windowLength, heldOutCount, trainedCount, divergence, keptStep } = healing;
  const { before, after } = divergence;
  const summary =
    keptStep === 0
      ? 'No step decreased the divergence on held-out windows, so the weights are unchanged.'
      : `On ${counted(heldOutCount, 'held-out window')}, the divergence from the dense model went from ${formatDivergence(before)} to ` +
        `${formatDivergence(after)} nats per token (${changeOf(divergence)}).`;
  const trained = dtype === undefined ? 'weights' : `scales and other floats of ${dtype}`;
  return [
    h(
      'p',
      {},
      `${formatCount(trainedCount)} ${trained} were trained on the dense model's predictions, on ${counted(windowCount, 'window')} ` +
        `of ${windowLength} tokens. ${summary}`,
    ),
    curveFigure(healing),
  ];
}

const cell = (divergence: number | undefined): string => (divergence === undefined ? '' : formatDivergence(divergence));

function curveFigure({ curve, keptStep }: HealingReport): HTMLElement {
  const pointsOf = (of: 'train' | 'heldOut') =>
    curve.flatMap(({ step, [of]: divergence }) => (divergence === undefined ? [] : [{ step, divergence }]));
  const [train, heldOut] = [pointsOf('train'), pointsOf('heldOut')];
  return figure({
    caption: `Divergence from the dense model by steps, in nats per token. The weights after step ${keptStep} were kept.`,
    legend: [
      ['training windows', 'dense'],
      ['held-out windows', 'pruned'],
    ],
    table: table(
      'Divergence by steps',
      [
        { heading: 'step', numeric: true },
        { heading: 'training', numeric: true },
        { heading: 'held out', numeric: true },
      ],
      curve.map((point) => [String(point.step), cell(point.train), cell(point.heldOut)]),
    ),
    draw: (width) => ({
      height: 260,
      marginLeft: 48,
      marginBottom: 36,
      y: { zero: true, nice: true, label: null },
      marks: [
        gridY({ ticks: 4 }),
        axisY({ ticks: 4, ...axisName('divergence (nats per token)'), tickSize: 0 }),
        axisX({
          ticks: width < 500 ? 3 : 6,
          // Steps are integers.
          tickFormat: (step: number) => (Number.isInteger(step) ? String(step) : ''),
          label: 'step',
          labelAnchor: 'right',
        }),
        line(train, { x: 'step', y: 'divergence', stroke: 'var(--dense)', strokeWidth: 1.2 }),
        line(heldOut, { x: 'step', y: 'divergence', stroke: 'var(--pruned)', strokeWidth: 1.6 }),
        dot(heldOut, {
          x: 'step',
          y: 'divergence',
          r: 4,
          fill: 'var(--pruned)',
          symbol: 'diamond2',
          channels: { 'held out': ({ divergence }) => formatDivergence(divergence) },
          tip: { format: { y: false } },
        }),
      ],
    }),
  });
}
