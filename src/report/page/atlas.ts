import { formatPercent } from '../format-quantity.js';
import type { ContextReport, GroupReport, ModuleReport, PruneReport } from '../report-schema.js';
import { words } from '../table-columns.js';
import { contextDetail, describedTokens } from './context-detail.js';
import { drawContexts } from './context-heat-map.js';
import { choice, h, meterLabel, section, table } from './dom.js';
import { figure } from './figure.js';
import { formatCondition } from './format-condition.js';
import { readRouting, routingPage } from './routing.js';

/** An FFN whose neurons were grouped by function. */
interface Atlas {
  readonly block: number;
  readonly groups: readonly (GroupReport & { readonly size: number })[];
  readonly contexts: readonly ContextReport[];
  readonly affinity: NonNullable<ModuleReport['affinity']>;
}

/** An FFN or a mixture of experts in the atlas. */
interface Page {
  readonly label: string;
  readonly status: string;
  draw(): HTMLElement[];
}

/**
 * Contexts by block, with the remaining neurons of each function group, and the experts of a mixture; undefined if tokens
 * were not clustered.
 */
export function atlasSection({ modules }: PruneReport): HTMLElement | undefined {
  const [hasGroups, hasMixtures] = [
    modules.some(({ groups }) => groups !== undefined),
    modules.some(({ routing }) => routing !== undefined),
  ];
  const pages = modules.flatMap((module) => readPage(module, hasMixtures));
  const [first] = pages;
  if (first === undefined) return undefined;
  const page = h('div', { id: 'atlas-page' });
  const status = h('p', { class: 'small', role: 'status' });
  const show = (found: Page) => {
    page.replaceChildren(...found.draw());
    status.textContent = found.status;
  };
  show(first);
  return section(
    'atlas',
    'Function atlas',
    h(
      'p',
      {},
      [
        'By the inputs of a block, the tokens of a text form clusters, its contexts: code, names, ends of sentences.',
        ...(hasGroups
          ? [
              'Each function group has the neurons that one context uses most; the shared group serves many contexts and is ' +
                'never pruned. Choose a block, then a group.',
            ]
          : []),
        ...(hasMixtures
          ? ['Of a mixture of experts, the atlas shows which experts the tokens of each context go to.']
          : []),
      ].join(' '),
    ),
    choice(
      { name: 'atlas-block', legend: hasMixtures ? 'Block and part' : 'Block', className: 'chips' },
      pages.map((found) => ({ value: found, label: found.label, checked: found === first })),
      show,
    ),
    status,
    page,
  );
}

function readPage(module: ModuleReport, hasMixtures: boolean): Page[] {
  const mixture = readRouting(module);
  if (mixture !== undefined) {
    const { block, contexts, experts } = mixture;
    const remaining = experts.filter(({ remains }) => remains).length;
    return [
      {
        label: `${block} experts`,
        status: `Block ${block}: ${contexts.length} contexts, ${remaining} of ${experts.length} experts kept.`,
        draw: () => routingPage(mixture),
      },
    ];
  }
  return readAtlas(module).map((atlas) => {
    const remaining = atlas.groups.reduce((sum, { keptCount }) => sum + keptCount, 0);
    const all = atlas.groups.reduce((sum, { size }) => sum + size, 0);
    return {
      label: `${atlas.block}${hasMixtures ? ' FFN' : ''}`,
      status: `Block ${atlas.block}: ${atlas.contexts.length} contexts, ${remaining} of ${all} neurons kept.`,
      draw: () => atlasPage(atlas),
    };
  });
}

function readAtlas({ block, groups, contexts, affinity }: ModuleReport): Atlas[] {
  if (groups === undefined || contexts === undefined || affinity === undefined) return [];
  const sizes = groups.map((_, index) =>
    affinity.columns.reduce((sum, { group, neuronCount }) => sum + (group === index ? neuronCount : 0), 0),
  );
  return [{ block, groups: groups.map((group, at) => ({ ...group, size: sizes[at]! })), contexts, affinity }];
}

function atlasPage(atlas: Atlas): HTMLElement[] {
  const { groups, contexts } = atlas;
  const detail = h('div', { class: 'detail' });
  const show = (group: Atlas['groups'][number]) => detail.replaceChildren(...groupDetail(group, contexts));
  const first = groups.find(({ kind }) => kind === 'function') ?? groups[0]!;
  show(first);
  return [
    heatMap(atlas),
    h(
      'div',
      { class: 'explorer' },
      choice(
        { name: 'atlas-group', legend: 'Function group', className: 'groups' },
        groups.map((group) => ({ value: group, label: groupLabel(group, contexts), checked: group === first })),
        show,
      ),
      detail,
    ),
  ];
}

export function groupName({ kind, context }: GroupReport): string {
  return kind === 'shared' ? 'Shared' : `Group ${(context ?? 0) + 1}`;
}

function groupLabel(group: Atlas['groups'][number], contexts: readonly ContextReport[]): Node {
  const { size, keptCount, context } = group;
  const about = context === undefined ? 'serves many contexts' : describedTokens(contexts[context]);
  const fraction = size === 0 ? 0 : keptCount / size;
  return meterLabel(groupName(group), about, { fraction, figure: `${keptCount} of ${size} neurons kept` });
}

function groupDetail(group: Atlas['groups'][number], contexts: readonly ContextReport[]): HTMLElement[] {
  const { size, keptCount, context, numerics } = group;
  const removed = size - keptCount;
  const counts = `${keptCount} of ${size} neurons remain, ${removed} were removed (${formatPercent(size === 0 ? 0 : removed / size)}).`;
  const repair =
    numerics === undefined
      ? ''
      : ` Condition number of the repair about ${formatCondition(numerics.condition)}, dampening ${numerics.dampening}.`;
  if (context === undefined) {
    return [
      h('h3', {}, 'Shared group'),
      h('p', {}, counts),
      h('p', {}, 'Neurons that several contexts use most. They are never pruned.'),
    ];
  }
  const total = contexts.reduce((sum, { tokenCount }) => sum + tokenCount, 0);
  const share = total === 0 ? 0 : contexts[context]!.tokenCount / total;
  return [
    h('h3', {}, `${groupName(group)} and its context`),
    h('p', {}, `${counts}${repair}`),
    h('p', {}, `Its context has ${contexts[context]!.tokenCount} calibration tokens, ${formatPercent(share)} of all.`),
    ...contextDetail(contexts[context]!, `the context of ${groupName(group).toLowerCase()}`),
  ];
}

const formatAffinity = (affinity: number): string => affinity.toExponential(1);

/** Contexts by neurons; the stronger the colour, the more a context uses them. */
function heatMap({ block, groups, affinity, contexts }: Atlas): HTMLElement {
  const { columns, values } = affinity;
  const cells = values.flatMap((row, context) =>
    row.map((value, column) => {
      const { group, neuronCount, keptCount } = columns[column]!;
      return { context, column, value, group, neuronCount, keptCount };
    }),
  );
  const names = groups.flatMap((group, index) => {
    const ofGroup = columns.flatMap((column, at) => (column.group === index ? [at] : []));
    const middle = ofGroup[Math.floor(ofGroup.length / 2)];
    return middle === undefined
      ? []
      : [{ column: middle, name: group.kind === 'shared' ? 'S' : String(group.context! + 1) }];
  });
  const mean = (context: number, index: number): string => {
    const ofGroup = cells.filter((cell) => cell.context === context && cell.group === index);
    const count = ofGroup.reduce((sum, { neuronCount }) => sum + neuronCount, 0);
    return count === 0
      ? ''
      : formatAffinity(ofGroup.reduce((sum, { value, neuronCount }) => sum + value * neuronCount, 0) / count);
  };
  return figure({
    caption:
      `Block ${block}: how much each context (a row) uses each neuron (from left to right: S = shared, then groups 1 to ` +
      `${contexts.length}, strongest neurons first). The stronger the colour, the more. The top row shows which neurons remain.`,
    tableName: 'Show mean affinities',
    table: table(
      `Block ${block}: mean affinity of each group's neurons by context`,
      [
        ...words('context'),
        ...groups.map((group) => ({
          heading: group.kind === 'shared' ? 'shared' : `group ${group.context! + 1}`,
          numeric: true,
        })),
      ],
      contexts.map((_, context) => [String(context + 1), ...groups.map((_group, index) => mean(context, index))]),
    ),
    draw: (width) =>
      drawContexts(width, {
        columns: columns.map(({ group, keptCount, neuronCount }) => ({
          group,
          remainingFraction: keptCount / neuronCount,
        })),
        contextCount: contexts.length,
        cells,
        channels: {
          group: ({ group }) => groupName(groups[group]!),
          neurons: ({ neuronCount, keptCount }) => `${neuronCount}, ${keptCount} kept`,
          affinity: ({ value }) => formatAffinity(value),
        },
        names,
      }),
  });
}
