import { parametersOf } from '../allocation/allocation.js';
import { groupUnrecognised, nameBlocks } from '../architecture/group-unrecognised.js';
import {
  MODULE_KINDS,
  type ModelLayout,
  type ModuleKind,
  type PrunableModule,
  type Unrecognised,
} from '../architecture/layout.js';
import { OptionError, UnsupportedModelError } from '../errors.js';
import { mayRemoveEntireFfns, type ResolvedOptions, readsTokens, removesNothing } from '../options.js';
import { shrinkSteps } from '../removal/plan-removal.js';
import type { PruneJob } from './job.js';
import { sharingModules } from './measure-dense/join-orders.js';
import { refuseExperts, remarkAllExperts } from './refuse-experts.js';

/** Modules that may be pruned. */
export interface Selection {
  readonly modules: PrunableModule[];
  /** Remarks about modules that cannot be pruned. */
  readonly remarks: string[];
  /** Remarks about the run's sparsity if only one kind is pruned; runs in several rounds have them once. */
  readonly oneKindRemarks: readonly string[];
  /** Kinds that cannot be pruned, if all of the sparsity falls on one other kind; otherwise empty. */
  readonly unpruned: readonly Unrecognised['kind'][];
}

type Given = Pick<PruneJob, 'analysed' | 'options'>;

/**
 * Chooses the modules that may be pruned. Modules that cannot be pruned are skipped unless the options name them.
 * @throws OptionError for a block that does not exist; UnsupportedModelError when a named module cannot be pruned, or none can.
 */
export function selectModules(given: Given): Selection {
  const found = trySelection(given);
  if ('obstacle' in found) throw new UnsupportedModelError(`${found.obstacle}; ${adviseModules(given)}`);
  return found;
}

/** Advice on options with which modules can be selected. */
function adviseModules({ analysed, options }: Given): string {
  const { blockSparsity } = options;
  const ownKinds = new Set(
    [...blockSparsity.values()].flatMap((own) => (typeof own === 'object' ? Object.keys(own) : [])),
  );
  const ofKind = MODULE_KINDS.filter((kind) => [...ownKinds].every((own) => own === kind));
  const unnamed = { modules: new Set(MODULE_KINDS), modulesNamed: false };
  const withoutKinds = new Map([...blockSparsity].filter(([, own]) => typeof own !== 'object'));
  const remedies: readonly (readonly [string, Partial<ResolvedOptions>])[] = [
    ...ofKind.map((kind) => [`choose modules "${kind}"`, { modules: new Set([kind]), modulesNamed: true }] as const),
    ['name no modules, to prune what can be pruned', unnamed],
    ['leave single kinds out of blockSparsity', { blockSparsity: withoutKinds }],
    ['set perBlockKvHeads, so that blocks may keep different numbers of KV heads', { perBlockKvHeads: true }],
    ['name no modules and set perBlockKvHeads', { ...unnamed, perBlockKvHeads: true }],
  ];
  const isSelected = (more: Partial<ResolvedOptions>) => {
    const found = trySelection({ analysed, options: { ...options, ...more } });
    return 'modules' in found && found.modules.length > 0;
  };
  const found = remedies.filter(([, more]) => isSelected(more)).map(([advice]) => advice);
  // Two changes only if no single one helps.
  const working = found.length > 1 ? found.filter((advice) => !advice.includes(' and set ')) : found;
  return working.length > 0 ? working.join(', or ') : '"describe" lists all parts and why they stay';
}

function trySelection({ analysed, options }: Given): Selection | { readonly obstacle: string } {
  const { modules, unrecognised, blockCount } = analysed.detected.layout;
  const invalid = [...options.blockSparsity.keys()].find((block) => block >= blockCount);
  if (invalid !== undefined)
    throw new OptionError(`blockSparsity names block ${invalid}; the model has blocks 0..${blockCount - 1}`, {
      option: 'blockSparsity',
    });
  refuseAbsentKinds(analysed.detected.layout, options);
  refuseExperts(analysed.detected.layout, options);
  const requested = modules.filter(({ kind }) => options.modules.has(kind));
  const unprunable = unrecognised.filter(({ kind }) => {
    const moduleKind = moduleKindOf(kind);
    return moduleKind === undefined || options.modules.has(moduleKind);
  });
  const refused = requested.length === 0 ? unprunable : unprunable.filter((found) => isNamedBy(options, found));
  // Weights can be rounded all the same.
  if (requested.length === 0 && removesNothing(options) && !options.modulesNamed)
    return { modules: [], unpruned: [], oneKindRemarks: [], remarks: [] };
  if (requested.length === 0 && unprunable.length === 0)
    return { obstacle: `the model has no ${[...options.modules].join(' or ')}` };
  if (refused.length > 0 || requested.length === 0) return { obstacle: describeRefused(refused, options) };
  const remarks = groupUnrecognised(unprunable).map(
    ({ name, first }) => `${name}: stays as it is; ${first.node}: ${first.reason}`,
  );
  // By default all blocks keep the same number of KV heads, so that one unprunable attention prevents pruning the others.
  const headsStay =
    !options.perBlockKvHeads &&
    (unprunable.some(({ kind }) => kind === 'attention') ||
      requested.some(({ attentionType }) => attentionType === 'shared'));
  const allowed = requested.filter(({ attentionType }) => attentionType !== 'full' || !headsStay);
  if (allowed.length === 0)
    return { obstacle: 'all attention stays: some KV heads cannot be pruned, and all blocks keep as many' };
  if (allowed.length < requested.length)
    remarks.push(
      `${allowed.some(({ attentionType }) => attentionType === 'shared') ? 'attention that no other block shares' : 'all attention'} stays: ` +
        'some KV heads cannot be pruned, and without perBlockKvHeads all blocks keep as many',
    );
  const sharing = allowed.filter(({ attentionType }) => attentionType === 'shared').map(({ block }) => block);
  if (sharing.length > 0)
    remarks.push(
      `${nameBlocks(sharing)} attention: keys, values and their caches are not pruned: several blocks read them, and each loses its own query heads`,
    );
  for (const members of sharingModules(allowed, options.headUnit).values())
    remarks.push(
      `${nameBlocks(members.map(({ block }) => block))} attention: they share keys and values, so that a KV head is removed from all of them together`,
    );
  const lacksScores = allowed.some(({ kind }) => kind === 'experts') && !readsTokens(options);
  if (lacksScores && options.sparsity > 0)
    remarks.push(`experts stay: method ${options.methodName} reads no token, which their scores need`);
  remarks.push(...remarkNeurons(allowed, options), ...remarkAllExperts(analysed, allowed, options));
  const selected = allowed.filter(
    (module) => module.unitCount > leastUnits(module, options) && !(lacksScores && module.kind === 'experts'),
  );
  const unpruned = findUnpruned(selected, unprunable);
  const oneKindRemarks =
    unpruned.length > 0 ? describeOneKind({ modules: selected, unpruned }, { analysed, options }) : [];
  return {
    modules: selected,
    unpruned,
    oneKindRemarks,
    remarks: [...(isOnlyRound(options) ? oneKindRemarks : []), ...remarks],
  };
}

/** Remarks about mixtures that lose only entire experts, since their neurons cannot be removed; one for each reason. */
function remarkNeurons(modules: readonly PrunableModule[], options: ResolvedOptions): string[] {
  const { allocation, experts, minimumWidth, sparsity } = options;
  if (!allocation.takesUnevenSteps || experts !== undefined || minimumWidth === 1 || sparsity === 0) return [];
  const blocksOf = new Map<string, number[]>();
  for (const { block, neuronsObstacle } of modules)
    if (neuronsObstacle !== undefined) blocksOf.set(neuronsObstacle, [...(blocksOf.get(neuronsObstacle) ?? []), block]);
  return [...blocksOf].map(([reason, blocks]) => `${nameBlocks(blocks)} experts: neurons inside them stay: ${reason}`);
}

/**
 * The selection without experts, for runs from statistics that do not cover them.
 * @param reason For the remark, such as `statistics have no removal order of them`.
 * @throws UnsupportedModelError if nothing else was selected.
 */
export function withoutExperts(selection: Selection, reason: string): Selection {
  const { modules, remarks } = selection;
  const others = modules.filter(({ kind }) => kind !== 'experts');
  if (others.length === modules.length) return selection;
  if (others.length === 0)
    throw new UnsupportedModelError(
      `experts stay: ${reason}; no other modules were asked for. Prune experts from calibration text, without statistics`,
    );
  return { ...selection, modules: others, remarks: [...remarks, `experts stay: ${reason}`] };
}

/** Fewest units that a module keeps, in steps for heads; of experts as many as the router chooses. */
export function leastUnits({ kind, leastExperts = 1 }: PrunableModule, options: ResolvedOptions): number {
  if (kind === 'experts') return leastExperts;
  return kind === 'ffn' && mayRemoveEntireFfns(options) ? 0 : 1;
}

const UNITS = { attention: 'heads', ffn: 'neurons', experts: 'experts' } as const satisfies Record<ModuleKind, string>;

/** Whether the options are those of the entire run, not of one of its rounds. */
const isOnlyRound = ({ denseWidths }: ResolvedOptions): boolean => denseWidths === undefined;

/** @throws OptionError if `blockSparsity` has a kind that the block lacks. */
function refuseAbsentKinds({ modules, unrecognised }: ModelLayout, { blockSparsity }: ResolvedOptions): void {
  for (const [block, own] of blockSparsity) {
    if (typeof own !== 'object') continue;
    const kinds = [...modules, ...unrecognised].flatMap((part) =>
      part.block === block ? (moduleKindOf(part.kind) ?? []) : [],
    );
    const invalid = (Object.keys(own) as ModuleKind[]).find((kind) => !kinds.includes(kind));
    if (invalid === undefined) continue;
    const found = [...new Set(kinds)].join(' and ') || 'none';
    throw new OptionError(
      `blockSparsity[${block}].${invalid} has no effect: block ${block} has no ${invalid}, only ${found}; leave it out`,
      {
        option: 'blockSparsity',
      },
    );
  }
}

/** Kinds that cannot be pruned, if all of the sparsity falls on one other kind; otherwise empty. */
function findUnpruned(modules: readonly PrunableModule[], unprunable: readonly Unrecognised[]): Unrecognised['kind'][] {
  const [only, ...others] = new Set(modules.map(({ kind }) => kind));
  if (only === undefined || others.length > 0) return [];
  return [...new Set(unprunable.map(({ kind }) => kind).filter((kind) => moduleKindOf(kind) !== only))];
}

/** Units that a sparsity removes if all modules lose the same fraction. */
interface Loss {
  readonly removed: number;
  readonly unitCount: number;
}

/** Counts the units that a sparsity removes from modules of one kind, in whole steps: a KV group with all its heads. */
function countLoss(
  modules: readonly PrunableModule[],
  { sparsity, headUnit }: Pick<ResolvedOptions, 'sparsity' | 'headUnit'>,
): Loss {
  const sum = (count: (module: PrunableModule) => number) =>
    modules.reduce((total, module) => total + count(module), 0);
  const removed = sum((module) => {
    const { stepCount, unitsPerStep } = shrinkSteps(module, headUnit);
    return unitsPerStep * Math.min(Math.round(sparsity * stepCount), stepCount - 1);
  });
  return { removed, unitCount: sum((module) => module.unitCount) };
}

const percent = (fraction: number): string => `${(100 * fraction).toFixed(1)} %`;

/** Remark about the effect of a sparsity that falls on one kind of module. */
function describeOneKind(
  { modules, unpruned }: Pick<Selection, 'modules' | 'unpruned'>,
  { analysed, options }: Given,
): string[] {
  const { sparsity } = options;
  const { kind } = modules[0]!;
  if (sparsity === 0) return [];
  const { removed, unitCount } = countLoss(modules, options);
  const parameters = parametersOf(modules);
  const share = (sparsity * parameters) / analysed.detected.layout.parameterCount;
  return [
    `sparsity counts what can be pruned, which here is ${kind} alone (${describeUnpruned(unpruned)}): ` +
      `${percent(sparsity)} of it is ${percent(share)} of the model, about ${removed} of ${unitCount} ${UNITS[kind]}`,
  ];
}

/** Largest fraction of heads, or experts, that a sparsity of at most that fraction may remove. */
const MAX_LOSS = 0.5;

/**
 * Refuses to remove more than half of the heads, or experts, at a sparsity of half or less. That happens where they are the only
 * prunable kind and are removed in coarse steps. Options that name modules are not refused.
 * @throws OptionError
 */
export function refuseHeavyLoss(
  { modules, unpruned }: Pick<Selection, 'modules' | 'unpruned'>,
  options: Pick<ResolvedOptions, 'sparsity' | 'headUnit' | 'modulesNamed' | 'blockSparsity'>,
): void {
  const { sparsity, modulesNamed, blockSparsity } = options;
  const kind = modules[0]?.kind ?? 'ffn';
  if (kind === 'ffn' || unpruned.length === 0 || modulesNamed || blockSparsity.size > 0 || sparsity > MAX_LOSS) return;
  const isHeavy = ({ removed, unitCount }: Loss) => removed > MAX_LOSS * unitCount;
  const loss = countLoss(modules, options);
  if (!isHeavy(loss)) return;
  const percents = Array.from({ length: Math.ceil(100 * sparsity) }, (_, at) => at / 100);
  const lower = percents.findLast((fraction) => !isHeavy(countLoss(modules, { ...options, sparsity: fraction })));
  throw new OptionError(
    `sparsity ${sparsity} would remove ${loss.removed} of ${loss.unitCount} ${UNITS[kind]}, more than half: nothing else can be pruned ` +
      `(${describeUnpruned(unpruned)}); lower the sparsity to ${lower}, or choose modules "${kind}" to remove them nevertheless`,
    { option: 'sparsity' },
  );
}

/** `experts stay`. */
const describeUnpruned = (unpruned: Selection['unpruned']): string =>
  `${unpruned.join(' and ')} ${unpruned.length === 1 && !unpruned.includes('experts') ? 'stays' : 'stay'}`;

/** Module kind by which options name a part; a mixer counts as attention. */
function moduleKindOf(kind: Unrecognised['kind']): ModuleKind | undefined {
  if (kind === 'mixer') return 'attention';
  return MODULE_KINDS.find((known) => known === kind);
}

/** Whether options name an unprunable part. Options that name attention do not mean mixers. */
function isNamedBy({ modulesNamed, blockSparsity }: ResolvedOptions, { block, kind }: Unrecognised): boolean {
  if (kind === 'mixer' || kind === 'per-layer input' || kind === 'low-rank layer') return false;
  const own = blockSparsity.get(block);
  const moduleKind = moduleKindOf(kind);
  return modulesNamed || (typeof own === 'object' && moduleKind !== undefined && own[moduleKind] !== undefined);
}

function describeRefused(refused: readonly Unrecognised[], { modulesNamed, blockSparsity }: ResolvedOptions): string {
  const [first] = groupUnrecognised(refused);
  const isNamed = modulesNamed || blockSparsity.size > 0;
  const named = isNamed
    ? `${refused.length === 1 ? 'a module that was' : `${refused.length} modules that were`} asked for cannot be pruned`
    : 'nothing in the model can be pruned';
  if (first === undefined) return `${named}: no module was found`;
  const { node, reason, nearest } = first.first;
  return `${named}; ${first.name}: ${node}: ${reason} (nearest: ${nearest})`;
}
