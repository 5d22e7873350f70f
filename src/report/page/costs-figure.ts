import { axisX, axisY, dot, gridY, line } from '@observablehq/plot';
import { formatPercent } from '../format-quantity.js';
import type { ModuleReport, PruneReport } from '../report-schema.js';
import { numbers, words } from '../table-columns.js';
import { table } from './dom.js';
import { axisName, figure } from './figure.js';

/** Predicted costs by the fraction removed of each module, and where the run stopped: at one slope everywhere. */
export function costsFigure({ modules }: PruneReport): HTMLElement | undefined {
  const drawn = modules.flatMap((module) =>
    module.costCurve === undefined ? [] : [{ ...module, ...module.costCurve }],
  );
  if (drawn.length === 0) return undefined;
  const highest = Math.max(...drawn.map(({ cost }) => cost.at(-1) ?? 0));
  // Logarithms need a floor; a thousandth of the whole is nothing to see.
  const floor = highest / 1e4;
  const name = ({ block, kind }: ModuleReport) => `block ${block} ${kind}`;
  const points = drawn.flatMap((module) =>
    module.removed.map((removed, at) => ({
      removed,
      cost: Math.max(floor, module.cost[at]!),
      module: name(module),
      kind: module.kind,
    })),
  );
  const ends = drawn.map((module) => {
    const removed = 1 - module.unitsAfter / module.unitsBefore;
    return { removed, cost: Math.max(floor, costAt(module, removed)), module: name(module), kind: module.kind };
  });
  return figure({
    caption:
      'What removing more of each module was foretold to cost, and where the run stopped (dots). Flat curves give first.',
    legend: [
      ['FFN', 'ffn'],
      ['attention', 'attention'],
    ],
    table: table(
      'Foretold cost of what was removed',
      [...words('module'), ...numbers('removed', 'cost', 'cost of removing it whole')],
      drawn.map((module, at) => [
        name(module),
        formatPercent(ends[at]!.removed),
        costAt(module, ends[at]!.removed).toExponential(1),
        (module.cost.at(-1) ?? 0).toExponential(1),
      ]),
    ),
    draw: (width) => ({
      height: 260,
      marginLeft: 56,
      marginBottom: 36,
      x: { domain: [0, 1] },
      y: { type: 'log', domain: [floor, highest], label: null },
      marks: [
        gridY({ ticks: 4 }),
        axisY({ ticks: 4, ...axisName('foretold cost'), tickSize: 0 }),
        axisX({
          ticks: width < 500 ? 3 : 6,
          label: 'removed',
          labelAnchor: 'right',
          tickFormat: (value: number) => formatPercent(value),
        }),
        line(points, { x: 'removed', y: 'cost', z: 'module', stroke: colourOf, strokeOpacity: 0.45, strokeWidth: 1.2 }),
        dot(ends, {
          x: 'removed',
          y: 'cost',
          r: 3,
          fill: colourOf,
          channels: { module: 'module', part: ({ removed }) => formatPercent(removed) },
          tip: { format: { x: false, y: false, fill: false } },
        }),
      ],
    }),
  });
}

const colourOf = ({ kind }: Pick<ModuleReport, 'kind'>): string => `var(--${kind})`;

/** Between the curve's points. */
function costAt(
  { removed, cost }: { readonly removed: readonly number[]; readonly cost: readonly number[] },
  x: number,
) {
  const after = removed.findIndex((value) => value >= x);
  if (after <= 0) return cost[Math.max(0, after)] ?? 0;
  const [from = 0, to = 0] = [removed[after - 1], removed[after]];
  const part = to === from ? 0 : (x - from) / (to - from);
  return cost[after - 1]! + part * (cost[after]! - cost[after - 1]!);
}
