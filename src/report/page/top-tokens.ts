import { formatPercent } from '../format-quantity.js';
import type { ModuleReport, PruneReport, TopTokensReport } from '../report-schema.js';
import { contextDetail, describedTokens } from './context-detail.js';
import { choice, h, meterLabel, section } from './dom.js';

/** A module with the tokens that activate its units. */
type Described = ModuleReport & { readonly topTokens: TopTokensReport };

/** Section with the tokens that activate remaining and removed units, by block. */
export function topTokensSection({ modules }: PruneReport): HTMLElement | undefined {
  const described = modules.filter((module): module is Described => module.topTokens !== undefined);
  const [first] = described;
  if (first === undefined) return undefined;
  const page = h('div', { id: 'top-tokens-page' });
  const status = h('p', { class: 'small', role: 'status' });
  const show = (module: Described) => {
    page.replaceChildren(...modulePage(module));
    status.textContent =
      `Block ${module.block}, ${NAMES[module.kind]}: ${module.unitsAfter} of ${module.unitsBefore} remain, with ` +
      `${formatPercent(module.topTokens.keptShare)} of its output.`;
  };
  show(first);
  return section(
    'top-tokens',
    'Tokens of remaining and removed units',
    h(
      'p',
      {},
      'In the dense model, some tokens activate mostly units that remain, and others mostly units that were removed: these are ' +
        'what the pruned model predicts less well. Shares are of the summed squared outputs of single units.',
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
    { name: 'Remaining', context: kept, count: module.unitsAfter },
    { name: 'Removed', context: removed, count: module.unitsBefore - module.unitsAfter },
  ];
  const show = ({ name, context }: (typeof groups)[number]) =>
    detail.replaceChildren(
      h('h3', {}, `${name}: tokens that activate it`),
      ...contextDetail(context, `${name.toLowerCase()} units`),
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
          label: meterLabel(group.name, describedTokens(group.context), {
            fraction: group.count / module.unitsBefore,
            figure: `${group.count} of ${module.unitsBefore}`,
          }),
          checked: group === groups[0],
        })),
        show,
      ),
      detail,
    ),
  ];
}
