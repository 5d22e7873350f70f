import { formatPercent } from '../format-quantity.js';
import type { ContextReport, ModuleReport, PruneReport, TopTokensReport } from '../report-schema.js';
import { contextDetail, describedTokens } from './context-detail.js';
import { choice, h, section } from './dom.js';

/** A module with the tokens that activate its units. */
type Described = ModuleReport & { readonly topTokens: TopTokensReport };

/** Block by block: which tokens the units answer that remained, and those that left. */
export function topTokensSection({ modules }: PruneReport): HTMLElement | undefined {
  const described = modules.filter((module): module is Described => module.topTokens !== undefined);
  const [first] = described;
  if (first === undefined) return undefined;
  const page = h('div', { id: 'top-tokens-page' });
  const status = h('p', { class: 'small', role: 'status' });
  const show = (module: Described) => {
    page.replaceChildren(...modulePage(module));
    status.textContent =
      `Block ${module.block}, ${NAMES[module.kind]}: ${module.unitsAfter} of ${module.unitsBefore} stay, which gave ` +
      `${formatPercent(module.topTokens.keptShare)} of its output.`;
  };
  show(first);
  return section(
    'top-tokens',
    'What stayed and what left',
    h(
      'p',
      {},
      'In the dense model, tokens activate some units more than others. Some answer most to units that stay, some to units that ' +
        'left: what the pruned model does not do as well. Shares are of the squared output, each unit by itself.',
    ),
    choice(
      { name: 'top-tokens-block', legend: 'Block and part', className: 'chips' },
      described.map((module) => ({
        value: module,
        label: `${module.block} ${module.kind === 'ffn' ? 'FFN' : 'heads'}`,
        checked: module === first,
      })),
      show,
    ),
    status,
    page,
  );
}

const NAMES = { ffn: 'FFN neurons', attention: 'attention heads', experts: 'experts' } as const;

function modulePage(module: Described): HTMLElement[] {
  const { kept, removed } = module.topTokens;
  const detail = h('div', { class: 'detail' });
  const groups = [
    { name: 'Stayed', context: kept, count: module.unitsAfter },
    { name: 'Left', context: removed, count: module.unitsBefore - module.unitsAfter },
  ];
  const show = ({ name, context }: (typeof groups)[number]) =>
    detail.replaceChildren(
      h('h3', {}, `${name}: tokens that activate it`),
      ...contextDetail(context, `what ${name === 'Stayed' ? 'stayed' : 'left'}`),
    );
  show(groups[0]!);
  return [
    h(
      'div',
      { class: 'explorer' },
      choice(
        { name: 'top-tokens-group', legend: 'Units', className: 'groups' },
        groups.map((group) => ({
          value: group,
          label: groupLabel(group, module.unitsBefore),
          checked: group === groups[0],
        })),
        show,
      ),
      detail,
    ),
  ];
}

function groupLabel(
  { name, context, count }: { readonly name: string; readonly context: ContextReport; readonly count: number },
  all: number,
): Node {
  const bar = h('span', { class: 'meter', 'aria-hidden': 'true' }, h('span', {}));
  (bar.firstChild as HTMLElement).style.width = `${(100 * count) / all}%`;
  return h(
    'span',
    { class: 'group' },
    h('strong', {}, name),
    h('span', { class: 'about' }, describedTokens(context)),
    bar,
    h('span', { class: 'small' }, `${count} of ${all}`),
  );
}
