import { formatPercent } from '../format-quantity.js';
import type { ContextReport, ModuleReport, RoutingReport } from '../report-schema.js';
import { numbers, words } from '../table-columns.js';
import { contextDetail, describedTokens } from './context-detail.js';
import { drawContexts } from './context-heat-map.js';
import { choice, h, meterLabel, table } from './dom.js';
import { figure } from './figure.js';

/** A mixture whose tokens were clustered into contexts. */
export interface RoutedMixture {
  readonly block: number;
  readonly contexts: readonly ContextReport[];
  readonly routing: RoutingReport;
  /** Sorted by the context that they serve most. */
  readonly experts: readonly RoutedExpert[];
}

interface RoutedExpert {
  readonly number: number;
  readonly remains: boolean;
  /** Fraction of each context's tokens that go to the expert. */
  readonly shares: readonly number[];
  /** Context with the largest fraction; undefined without tokens. */
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

/** Experts by context: a heat map, and details of each context. */
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

/** Fraction of a context's routed tokens that go to remaining experts. */
function remainingShare({ experts }: RoutedMixture, context: number): number {
  const sum = (some: readonly RoutedExpert[]) => some.reduce((total, { shares }) => total + shares[context]!, 0);
  const all = sum(experts);
  return all === 0 ? 1 : sum(experts.filter(({ remains }) => remains)) / all;
}

function contextLabel(mixture: RoutedMixture, context: number): Node {
  const share = remainingShare(mixture, context);
  return meterLabel(`Context ${context + 1}`, describedTokens(mixture.contexts[context]), {
    fraction: share,
    figure: `${formatPercent(share)} of its tokens go to remaining experts`,
  });
}

/** Largest number of experts on a context's page. */
const MAX_EXPERTS = 6;

function contextPage(mixture: RoutedMixture, context: number): HTMLElement[] {
  const { contexts, experts } = mixture;
  const { tokenCount } = contexts[context]!;
  const total = contexts.reduce((sum, found) => sum + found.tokenCount, 0);
  const main = experts
    .filter(({ shares }) => shares[context]! > 0)
    .sort((one, other) => other.shares[context]! - one.shares[context]!)
    .slice(0, MAX_EXPERTS)
    .map(
      ({ number, shares, remains }) =>
        `${formatPercent(shares[context]!)} to expert ${number}${remains ? '' : ' (removed)'}`,
    );
  return [
    h('h3', {}, `Context ${context + 1}`),
    h(
      'p',
      {},
      `It has ${tokenCount} calibration tokens, ${formatPercent(total === 0 ? 0 : tokenCount / total)} of all. ` +
        `Of these go ${main.join(', ')}. ${formatPercent(remainingShare(mixture, context))} of their routing goes to remaining experts.`,
    ),
    ...contextDetail(contexts[context]!, `context ${context + 1}`),
  ];
}

/** Largest number of columns with space for numbers. */
const MAX_NUMBERED = 32;

/** Contexts by experts; the stronger the colour, the more of a context's tokens go there. */
function heatMap({ block, contexts, experts, routing }: RoutedMixture): HTMLElement {
  const cells = experts.flatMap(({ number, shares, remains }, column) =>
    shares.map((value, context) => ({ column, context, number, remains, value })),
  );
  return figure({
    caption:
      `Block ${block}: which experts (from left to right, by the context that they serve most) the tokens of each context (a row) ` +
      'go to. The stronger the colour, the more of them. The top row shows which experts remain. Normalised mutual information ' +
      `of contexts and routing: ${routing.mutualInformation.toFixed(2)} (0: independent, 1: each determines the other).`,
    tableName: 'Show the shares',
    table: table(
      `Block ${block}: share of each context's tokens that goes to each expert`,
      [...words('expert', 'remains'), ...numbers(...contexts.map((_, context) => `context ${context + 1}`))],
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
        names:
          experts.length > MAX_NUMBERED ? [] : experts.map(({ number }, column) => ({ column, name: String(number) })),
      }),
  });
}
