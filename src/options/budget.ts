import { type Allocation, BLOCK_MEASURES, CHECKABLE } from '../allocation/allocation.js';
import { ALLOCATIONS, type AllocationName } from '../allocation/allocations.js';
import { MODULE_KINDS, type ModuleKind } from '../architecture/layout.js';
import { isRecord } from '../parse-json.js';
import type { HeadUnit } from '../removal/plan-removal.js';
import {
  boolean,
  callback,
  choice,
  type Fraction,
  findFault,
  fraction,
  fractionOf,
  integer,
  type Kind,
  listOf,
  namesOf,
  optional,
  portion,
  record,
} from './kinds.js';
import { type AnyRows, type Applies, type OptionsOf, refusal, row, showValue, suggestValue } from './option.js';

export type { HeadUnit };

/** Modules to prune: FFN neurons, attention heads, entire experts, or all of them. */
export type ModuleSelection = ModuleKind | 'all';

/** Sparsity of one block: of all its modules, or of each kind. */
export type BlockSparsity<Part = Fraction> = Part | Partial<Readonly<Record<ModuleKind, Part>>>;

/** Name of a row of `ALLOCATIONS`, your own allocation, or a function `allocate`, which gets the block change. */
export type AllocationChoice = AllocationName | Allocation | Allocation['allocate'];

const isModuleKind = (kind: string): kind is ModuleKind => MODULE_KINDS.some((known) => known === kind);

/** Condition: modules of some kinds are pruned. */
export const whereSelected = (...kinds: readonly ModuleKind[]): Applies => ({
  to: `modules ${kinds.map((kind) => `"${kind}"`).join(', ')} or "all"`,
  within: ({ modules }) => kinds.some((kind) => modules.has(kind)),
});

const candidatesKind: Kind<object> = {
  accepts: (value): value is object =>
    isRecord(value) &&
    Object.values(value).every((each) => isRecord(each) && findFault(each, allocationKind) === undefined),
  expected: 'allocations by name, each { allocate }',
};

const allocationKind: Kind<AllocationChoice> = {
  accepts: (value): value is AllocationChoice =>
    typeof value === 'string'
      ? Object.hasOwn(ALLOCATIONS, value)
      : typeof (typeof value === 'function' ? value : Object(value).allocate) === 'function',
  expected: `one of ${namesOf(ALLOCATIONS).join(', ')}, a function of each module's measures or { allocate }`,
  typed: `one of ${namesOf(ALLOCATIONS).join(', ')}`,
  choices: namesOf(ALLOCATIONS),
  fields: {
    measures: optional(listOf(choice(BLOCK_MEASURES), `a list of ${BLOCK_MEASURES.join(', ')}`, 'names')),
    checkable: optional(choice(CHECKABLE)),
    orderBy: optional(callback('a function that selects an adapter')),
    candidates: optional(candidatesKind),
  },
};

/** Allocations that may remove entire FFNs. */
const REMOVING_ENTIRE_FFNS = namesOf(ALLOCATIONS).filter((name) => {
  const { removesEntireFfns }: Allocation = ALLOCATIONS[name];
  return removesEntireFfns;
});

export const BUDGET = {
  /** Fraction of the selected prunable parameters to remove: 0.3 or '30%', from 0 to below 1. */
  sparsity: row('-s, --sparsity <fraction>', 'part to remove: 0.3 or 30%; a ladder: 0.1,0.2', {
    kind: { ...fraction, reads: 'fractions' },
    required: true,
    common: true,
  }),
  /** Modules to prune; a named kind that cannot be pruned is an error. Default: all prunable modules; others remain, with a remark. */
  modules: row('--modules <kind>', 'kind of modules to prune', {
    kind: choice([...MODULE_KINDS, 'all']),
    otherwise: 'all',
    common: true,
  }),
  /**
   * Distribution of the sparsity over blocks: a name, or a function of each module's measures. Default: the
   * method's own (`uniform`; `adaptive` for `f-fang` and `o-fang`, `global` for `auto`).
   * @example
   * const allocation = ({ sparsity, modules }) => modules.map(({ block }) => (block === 0 ? 0 : sparsity));
   * await prune({ model, out, sparsity: 0.3, modules: 'ffn', allocation });
   */
  allocation: row('--allocation <rule>', 'how sparsity is spread over blocks', {
    kind: allocationKind,
    otherwise: "the method's own",
    common: true,
  }),
  /** Widths of FFNs and experts are rounded to the nearest multiple of this; 1 to the widest FFN. Default 1. */
  widthMultiple: row('--width-multiple <count>', 'keep widths of FFNs and experts at multiples of this', {
    kind: integer(1),
    default: 1,
    applies: whereSelected('ffn', 'experts'),
  }),
  /**
   * Least fraction of neurons that remain in every FFN and expert, in [0, 1]; at 1 only entire experts are removed. At 0 an
   * entire FFN may be removed from the graph with `allocation: 'global'`. Above 0, and by default, one neuron remains.
   * Attention always keeps a KV group.
   */
  minimumWidth: row(
    '--minimum-width <fraction>',
    'neurons that every FFN and expert keeps; 0: an entire FFN may be removed',
    {
      kind: portion,
      otherwise: 'one neuron',
      applies: {
        to: `FFNs and experts, and at 0 with allocation ${REMOVING_ENTIRE_FFNS.join(', ')}`,
        within: ({ modules, removesEntireFfns }, least) =>
          (modules.has('ffn') || modules.has('experts')) && (least !== 0 || removesEntireFfns),
      },
    },
  ),
  /**
   * Rounds of iterative pruning, at least 1; each measures the partly pruned model again, so that n shots take n times
   * as long. Default 1.
   */
  shots: row(undefined, 'rounds of pruning that reach the sparsity step by step', { kind: integer(1), default: 1 }),
  /**
   * Sparsity of single blocks, as 0.5 or '50%'; 0 skips a block. The others share the rest of the budget. That of an
   * FFN may be 1 with `allocation: 'global'` and `minimumWidth: 0`, which removes it.
   */
  blockSparsity: row(
    '--block-sparsity <list>',
    'sparsity of single blocks, such as 0=0,3=0.5,4.ffn=20%; the others share the rest',
    {
      kind: {
        ...record<Readonly<Record<number, BlockSparsity>>>('an object such as { 3: 0.5, 4: { ffn: 0.2 } }'),
        typed: 'blocks and their sparsities, such as 3=0.5 or 3.ffn=50%',
        reads: 'blockSparsity',
      },
      otherwise: 'none',
    },
  ),
  /**
   * Experts that every mixture keeps, independent of `sparsity`; the other modules share the rest of the budget, and at
   * sparsity 0 nothing else is removed.
   */
  experts: row('--experts <count>', 'experts that every mixture keeps; at sparsity 0 nothing else is removed', {
    kind: integer(1),
    otherwise: 'by the sparsity',
    applies: whereSelected('experts'),
  }),
  /** Default `group`. */
  headUnit: row('--head-unit <unit>', 'grouped-query attention: whole KV groups or query heads', {
    kind: choice(['group', 'query']),
    default: 'group',
    applies: whereSelected('attention'),
  }),
  /** KV head counts may differ between blocks (supported by ONNX Runtime and transformers.js >= 4.2). Default false. */
  perBlockKvHeads: row(
    '--per-block-kv-heads',
    'let KV head counts differ between blocks, which not every runtime supports',
    { kind: boolean, default: false, applies: whereSelected('attention') },
  ),
} as const satisfies AnyRows;

/** Amount of removal, and its distribution over blocks. */
export interface BudgetOptions extends OptionsOf<typeof BUDGET> {}

/** Options that decide whether a block's sparsity is valid. */
interface BlockCase {
  readonly modules: ReadonlySet<string>;
  /** Whether an entire FFN may be removed. */
  readonly mayRemoveEntireFfn: boolean;
}

/** Block sparsities by block. @throws OptionError naming the block. */
export function resolveBlockSparsity(
  given: BudgetOptions['blockSparsity'],
  { modules, mayRemoveEntireFfn }: BlockCase,
): ReadonlyMap<number, BlockSparsity<number>> {
  const checkPart = (name: string, value: unknown, isValid = fraction.accepts(value)) => {
    if (!isValid)
      throw refusal(name, `is ${showValue(value)}; expected ${fraction.expected}${suggestValue(value, fraction)}`);
  };
  const entries = Object.entries(given ?? {}).map(([key, value]): [number, BlockSparsity<number>] => {
    const name = `blockSparsity[${key}]`;
    if (!integer(0).accepts(Number(key))) throw refusal(name, 'is not a block; expected a block index of at least 0');
    if (typeof value !== 'object' || value === null) {
      checkPart(name, value);
      return [Number(key), fractionOf(value)];
    }
    const parts: Partial<Record<ModuleKind, number>> = {};
    for (const [kind, part] of Object.entries(value)) {
      if (!isModuleKind(kind))
        throw refusal(`${name}.${kind}`, `is not a kind of module; expected ${MODULE_KINDS.join(', ')}`);
      if (part === undefined) continue;
      const isEntire = mayRemoveEntireFfn && kind === 'ffn' && (part === 1 || part === '100%');
      checkPart(`${name}.${kind}`, part, fraction.accepts(part) || isEntire);
      parts[kind] = fractionOf(part);
      if (parts[kind] !== 0 && !modules.has(kind))
        throw refusal(`${name}.${kind}`, `has no effect in this run: it applies only to modules "${kind}" or "all"`);
    }
    return [Number(key), parts];
  });
  return new Map(entries);
}
