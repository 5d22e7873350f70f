import { formatPercent } from '../format-quantity.js';
import type { ContextReport, ModuleReport, RoutingReport } from '../report-schema.js';
import { numbers, words } from '../table-columns.js';
import { contextDetail, describedTokens } from './context-detail.js';
import { drawContexts } from './context-heat-map.js';
import { choice, h, table } from './dom.js';
import { figure } from './figure.js';

/** A mixture whose tokens were told apart by context. */
export interface RoutedMixture {
  readonly block: number;
  readonly contexts: readonly ContextReport[];
  readonly routing: RoutingReport;
  /** By the context that they serve most. */
  readonly experts: readonly RoutedExpert[];
}

interface RoutedExpert {
  readonly number: number;
  readonly remains: boolean;
  /** Fraction of a context's tokens that go there, by context. */
  readonly shares: readonly number[];
  /** The context that goes there more than others do; undefined: no token does. */
  readonly context: number | undefined;
}

export function readRouting({ block, contexts, routing, keep, unitsBefore }: ModuleReport): RoutedMixture | undefined {
  if (contexts === undefined || routing === undefined) return undefined;
  const remaining = new Set(keep);
  const experts = Array.from({ length: unitsBefore }, (_, number): RoutedExpert => {
    const shares = contexts.map(({ tokenCount }, context) =>
      tokenCount === 0 ? 0 : (routing.tokens[context]?.[number] ?? 0) / tokenCount,
    );
    const most = Math.max(...shares);
    return { number, remains: remaining.has(number), shares, context: most > 0 ? shares.indexOf(most) : undefined };
  });
  const strengthOf = ({ shares }: RoutedExpert) => Math.max(...shares);
  const placeOf = ({ context = contexts.length }: RoutedExpert) => context;
  experts.sort(
    (one, other) => placeOf(one) - placeOf(other) || strengthOf(other) - strengthOf(one) || one.number - other.number,
  );
  return { block, contexts, routing, experts };
}

/** Which experts serve which contexts: a figure, and each context with its experts. */
export function routingPage(mixture: RoutedMixture): HTMLElement[] {
  const { contexts } = mixture;
  const detail = h('div', { class: 'detail' });
  const show = (context: number) => detail.replaceChildren(...contextPage(mixture, context));
  show(0);
  return [
    heatMap(mixture),
    h(
      'div',
      { class: 'explorer' },
      choice(
        { name: 'routing-context', legend: 'Context', className: 'groups' },
        contexts.map((_, context) => ({
          value: context,
          label: contextLabel(mixture, context),
          checked: context === 0,
        })),
        show,
      ),
      detail,
    ),
  ];
}

/** Fraction of a context's routes that lead to experts that remain. */
function remainingShare({ experts }: RoutedMixture, context: number): number {
  const sum = (some: readonly RoutedExpert[]) => some.reduce((total, { shares }) => total + shares[context]!, 0);
  const all = sum(experts);
  return all === 0 ? 1 : sum(experts.filter(({ remains }) => remains)) / all;
}

function contextLabel(mixture: RoutedMixture, context: number): Node {
  const share = remainingShare(mixture, context);
  const bar = h('span', { class: 'meter', 'aria-hidden': 'true' }, h('span', {}));
  (bar.firstChild as HTMLElement).style.width = `${100 * share}%`;
  return h(
    'span',
    { class: 'group' },
    h('strong', {}, `Context ${context + 1}`),
    h('span', { class: 'about' }, describedTokens(mixture.contexts[context])),
    bar,
    h('span', { class: 'small' }, `${formatPercent(share)} of its routing stays`),
  );
}

/** Experts that a context's page names. */
const NAMED = 6;

function contextPage(mixture: RoutedMixture, context: number): HTMLElement[] {
  const { contexts, experts } = mixture;
  const { tokenCount } = contexts[context]!;
  const total = contexts.reduce((sum, found) => sum + found.tokenCount, 0);
  const main = experts
    .filter(({ shares }) => shares[context]! > 0)
    .sort((one, other) => other.shares[context]! - one.shares[context]!)
    .slice(0, NAMED)
    .map(
      ({ number, shares, remains }) =>
        `${formatPercent(shares[context]!)} to expert ${number}${remains ? '' : ' (removed)'}`,
    );
  return [
    h('h3', {}, `Context ${context + 1}`),
    h(
      'p',
      {},
      `It holds ${tokenCount} calibration tokens, ${formatPercent(total === 0 ? 0 : tokenCount / total)} of all. ` +
        `Of these go ${main.join(', ')}. ${formatPercent(remainingShare(mixture, context))} of their routing leads to experts that stay.`,
    ),
    ...contextDetail(contexts[context]!, `context ${context + 1}`),
  ];
}

/** Columns that are wide enough for their numbers. */
const NUMBERED = 32;

/** Contexts by experts; the stronger the colour, the more of a context's tokens go there. */
function heatMap({ block, contexts, experts, routing }: RoutedMixture): HTMLElement {
  const cells = experts.flatMap(({ number, shares, remains }, column) =>
    shares.map((value, context) => ({ column, context, number, remains, value })),
  );
  return figure({
    caption:
      `Block ${block}: which experts (from left to right, by the context that they serve most) the tokens of each context (a line) ` +
      'go to. The stronger the colour, the more of them. The line on top shows which experts stay. Normalised mutual information ' +
      `of contexts and routing: ${routing.mutualInformation.toFixed(2)} (0: they have nothing in common, 1: each tells the other).`,
    tableName: 'Show the shares',
    table: table(
      `Block ${block}: share of each context's tokens that goes to each expert`,
      [...words('expert', 'stays'), ...numbers(...contexts.map((_, context) => `context ${context + 1}`))],
      experts.map(({ number, remains, shares }) => [
        String(number),
        remains ? 'yes' : 'no',
        ...shares.map(formatPercent),
      ]),
    ),
    draw: (width) =>
      drawContexts(width, {
        columns: experts.map(({ context: group, remains }) => ({ group, remainingFraction: remains ? 1 : 0 })),
        contextCount: contexts.length,
        cells,
        channels: {
          expert: ({ number, remains }) => `${number}${remains ? '' : ', removed'}`,
          share: ({ value }) => formatPercent(value),
        },
        names: experts.length > NUMBERED ? [] : experts.map(({ number }, column) => ({ column, name: String(number) })),
      }),
  });
}
