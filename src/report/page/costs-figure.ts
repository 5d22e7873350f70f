import { axisX, axisY, dot, gridY, line } from '@observablehq/plot';
import { formatExactPercent, formatPercent } from '../format-quantity.js';
import type { ModuleReport, PruneReport } from '../report-schema.js';
import { numbers, words } from '../table-columns.js';
import { table } from './dom.js';
import { axisName, figure } from './figure.js';

/**
 * Predicted costs by the removed fraction of each module, and the fraction that the run removed: at an equal slope of all curves.
 * Costs depend on the metric, so they are drawn as shares of the predicted cost of the run.
 */
export function costsFigure({ modules }: PruneReport): HTMLElement | undefined {
  const drawn = modules.flatMap(({ costCurve, ...module }) =>
    costCurve === undefined ? [] : [{ ...module, ...costCurve, pruned: 1 - module.unitsAfter / module.unitsBefore }],
  );
  const total = drawn.reduce((sum, module) => sum + costAt(module, module.pruned), 0);
  if (total === 0) return undefined;
  const shareAt = (module: (typeof drawn)[number], removed: number) => costAt(module, removed) / total;
  const highest = Math.max(...drawn.map((module) => shareAt(module, 1)));
  // A logarithmic axis needs a lower limit.
  const floor = highest / 1e4;
  const name = ({ block, kind }: Pick<ModuleReport, 'block' | 'kind'>) => `block ${block} ${kind}`;
  const points = drawn.flatMap((module) =>
    module.removed.map((removed) => ({
      removed,
      cost: Math.max(floor, shareAt(module, removed)),
      module: name(module),
      kind: module.kind,
    })),
  );
  const ends = drawn.map((module) => {
    const cost = shareAt(module, module.pruned);
    return { removed: module.pruned, cost, drawn: Math.max(floor, cost), module: name(module), kind: module.kind };
  });
  const ticks = decadesIn(floor, highest);
  return figure({
    caption:
      'Predicted cost of removing units of each module, and the fractions that the run removed (dots). 100 % is the predicted cost of ' +
      'all removed units. Modules with flat curves are pruned most.',
    legend: [
      ['FFN', 'ffn'],
      ['attention', 'attention'],
      ...(drawn.some(({ kind }) => kind === 'experts') ? ([['experts', 'experts']] as const) : []),
    ],
    table: table(
      'Predicted cost of the removed units',
      [...words('module'), ...numbers('removed', 'cost (% of all)', 'cost of removing the entire module (% of all)')],
      drawn.map((module, at) => [
        name(module),
        formatPercent(module.pruned),
        formatCost(ends[at]!.cost),
        formatCost(shareAt(module, 1)),
      ]),
    ),
    draw: (width) => ({
      height: 260,
      marginLeft: 56,
      marginBottom: 36,
      x: { domain: [0, 1] },
      y: { type: 'log', domain: [floor, highest], label: null },
      marks: [
        gridY({ ticks }),
        axisY({ ticks, tickFormat: formatCost, ...axisName('predicted cost (% of all)'), tickSize: 0 }),
        axisX({
          ticks: width < 500 ? 3 : 6,
          label: 'removed',
          labelAnchor: 'right',
          tickFormat: (value: number) => formatExactPercent(value),
        }),
        line(points, { x: 'removed', y: 'cost', z: 'module', stroke: colourOf, strokeOpacity: 0.45, strokeWidth: 1.2 }),
        dot(ends, {
          x: 'removed',
          y: 'drawn',
          r: 3,
          fill: colourOf,
          channels: {
            module: 'module',
            part: ({ removed }) => formatPercent(removed),
            cost: ({ cost }) => formatCost(cost),
          },
          tip: { format: { x: false, y: false, fill: false } },
        }),
      ],
    }),
  });
}

/** To two digits: `0.012 %`, `3.4 %`, `130 %`. */
const formatCost = (share: number): string => `${Number((100 * share).toPrecision(2))} %`;

/** Powers of ten in a range, for ticks. */
function decadesIn(low: number, high: number): number[] {
  const [first, last] = [Math.ceil(Math.log10(low)), Math.floor(Math.log10(high))];
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, at) => 10 ** (first + at));
}

const colourOf = ({ kind }: Pick<ModuleReport, 'kind'>): string => `var(--${kind})`;

/** Cost by linear interpolation between the curve's points. */
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
