import { groupUnrecognised } from '../architecture/group-unrecognised.js';
import {
  MODULE_KINDS,
  type ModelLayout,
  type ModuleKind,
  type PrunableModule,
  type Unrecognised,
} from '../architecture/layout.js';
import { OptionError, UnsupportedModelError } from '../errors.js';
import { mayTakeWholeFfns, type ResolvedOptions, readsTokens } from '../options.js';
import { shrinkSteps } from '../removal/plan-removal.js';
import type { PruneJob } from './job.js';

/** Modules that may shrink. */
export interface Selection {
  readonly modules: PrunableModule[];
  /** What stays because it cannot be pruned, a line for each kind and reason. */
  readonly remarks: string[];
  /** Those of them that name the whole run's sparsity, also in one of its rounds. */
  readonly burden: readonly string[];
}

/**
 * Chooses the modules that may shrink. What cannot be pruned stays where the user named no modules.
 * @throws OptionError for a block that does not exist; UnsupportedModelError when a module that was asked for cannot be pruned, or none can.
 */
export function selectModules({ analysed, options }: Pick<PruneJob, 'analysed' | 'options'>): Selection {
  const { modules, unrecognised, blockCount } = analysed.detected.layout;
  const stray = [...options.blockSparsity.keys()].find((block) => block >= blockCount);
  if (stray !== undefined)
    throw new OptionError(`blockSparsity names block ${stray}; the model has blocks 0..${blockCount - 1}`, {
      option: 'blockSparsity',
    });
  refuseStrayKinds(analysed.detected.layout, options);
  const asked = modules.filter(({ kind }) => options.modules.has(kind));
  const staying = unrecognised.filter(({ kind }) => {
    const asked = kindAsked(kind);
    return asked === undefined || options.modules.has(asked);
  });
  const refused = asked.length === 0 ? staying : staying.filter((found) => wasNamed(options, found));
  if (asked.length === 0 && staying.length === 0) throw lacking(options, modules);
  if (refused.length > 0 || asked.length === 0) throw refusal(refused, modules.length > 0);
  const remarks = groupUnrecognised(staying).map(
    ({ name, first }) => `${name}: stays as it is; ${first.node}: ${first.reason}`,
  );
  // Blocks whose heads stay keep their KV heads, and by default all blocks have as many.
  const headsStay =
    !options.perBlockKvHeads &&
    (staying.some(({ kind }) => kind === 'attention') || asked.some(({ attentionType }) => attentionType === 'shared'));
  const even = asked.filter(({ attentionType }) => attentionType !== 'full' || !headsStay);
  if (even.length === 0) throw refusal(staying, true);
  if (even.length < asked.length)
    remarks.push(
      `${even.some(({ attentionType }) => attentionType === 'shared') ? 'attention that no other block shares' : 'all attention'} stays: ` +
        'some KV heads cannot be pruned, and without perBlockKvHeads all blocks keep as many',
    );
  const blind = even.some(({ kind }) => kind === 'experts') && !readsTokens(options);
  if (blind && options.sparsity > 0)
    remarks.push(`experts stay: method ${options.methodName} looks at no token, and nothing else tells them apart`);
  const selected = even.filter(
    (module) => module.unitCount > leastUnits(module, options) && !(blind && module.kind === 'experts'),
  );
  const burden = describeBurden(selected, staying, { analysed, options });
  return { modules: selected, burden, remarks: [...(isWhole(options) ? burden : []), ...remarks] };
}

/**
 * The same without experts, for runs from statistics: those hold sums over tokens, which tell nothing of an expert.
 * @throws UnsupportedModelError where nothing else was selected.
 */
export function withoutExperts({ modules, remarks, burden }: Selection): Selection {
  const others = modules.filter(({ kind }) => kind !== 'experts');
  if (others.length === modules.length) return { modules, remarks, burden };
  if (others.length === 0)
    throw new UnsupportedModelError(
      'statistics hold nothing of experts, and no other modules were asked for; prune experts from calibration text, without statistics',
    );
  return { modules: others, burden, remarks: [...remarks, 'experts stay: statistics hold nothing of them'] };
}

/** Units that a module keeps in any case. A token goes to so many experts, and there must be as many. */
export function leastUnits({ kind, expertsPerToken = 1 }: PrunableModule, options: ResolvedOptions): number {
  if (kind === 'experts') return expertsPerToken;
  return kind === 'ffn' && mayTakeWholeFfns(options) ? 0 : 1;
}

const UNITS = { attention: 'heads', ffn: 'neurons', experts: 'experts' } as const satisfies Record<ModuleKind, string>;

/** Whether the sparsity is that of the whole run, not of one of its rounds. */
const isWhole = ({ denseWidths }: ResolvedOptions): boolean => denseWidths === undefined;

/** @throws OptionError where a block's own sparsity is of a kind that the block lacks. */
function refuseStrayKinds({ modules, unrecognised }: ModelLayout, { blockSparsity }: ResolvedOptions): void {
  for (const [block, own] of blockSparsity) {
    if (typeof own !== 'object') continue;
    const kinds = [...modules, ...unrecognised].flatMap((part) =>
      part.block === block ? (kindAsked(part.kind) ?? []) : [],
    );
    const stray = (Object.keys(own) as ModuleKind[]).find((kind) => !kinds.includes(kind));
    if (stray === undefined) continue;
    const found = [...new Set(kinds)].join(' and ') || 'none';
    throw new OptionError(
      `blockSparsity[${block}].${stray} has no effect: block ${block} has no ${stray}, only ${found}`,
      {
        option: 'blockSparsity',
      },
    );
  }
}

/** What the sparsity comes to where all of it falls on one kind of module, since the others stay; at most one remark. */
function describeBurden(
  modules: readonly PrunableModule[],
  staying: readonly Unrecognised[],
  { analysed, options: { sparsity, headUnit } }: Pick<PruneJob, 'analysed' | 'options'>,
): string[] {
  const [only, ...others] = new Set(modules.map(({ kind }) => kind));
  const spared = new Set(staying.map(({ kind }) => kind).filter((kind) => kindAsked(kind) !== only));
  if (only === undefined || others.length > 0 || spared.size === 0 || sparsity === 0) return [];
  const sum = (count: (module: PrunableModule) => number) =>
    modules.reduce((total, module) => total + count(module), 0);
  const unitCount = sum((module) => module.unitCount);
  const leaving = sum((module) => {
    const { stepCount, unitsPerStep } = shrinkSteps(module, headUnit);
    return unitsPerStep * Math.min(Math.round(sparsity * stepCount), stepCount - 1);
  });
  const share = (sparsity * sum(({ parameterCount }) => parameterCount)) / analysed.detected.layout.parameterCount;
  const percent = (fraction: number) => `${(100 * fraction).toFixed(1)} %`;
  return [
    `sparsity counts what can be pruned, which here is ${only} alone (${[...spared].join(' and ')} ${spared.size === 1 && !spared.has('experts') ? 'stays' : 'stay'}): ` +
      `${percent(sparsity)} of it is ${percent(share)} of the model, about ${leaving} of ${unitCount} ${UNITS[only]}`,
  ];
}

/** The kind of module that a part stands in place of. */
function kindAsked(kind: Unrecognised['kind']): ModuleKind | undefined {
  if (kind === 'mixer') return 'attention';
  return MODULE_KINDS.find((known) => known === kind);
}

/** Who names attention names nothing else that mixes tokens. */
function wasNamed({ modulesNamed, blockSparsity }: ResolvedOptions, { block, kind }: Unrecognised): boolean {
  if (kind === 'mixer' || kind === 'per-layer input' || kind === 'low-rank map') return false;
  const own = blockSparsity.get(block);
  const asked = kindAsked(kind);
  return modulesNamed || (typeof own === 'object' && asked !== undefined && own[asked] !== undefined);
}

function lacking({ modules: asked }: ResolvedOptions, modules: readonly PrunableModule[]): UnsupportedModelError {
  const kinds = [...new Set(modules.map(({ kind }) => kind))].join(' and ') || 'nothing';
  return new UnsupportedModelError(
    `the model has no ${[...asked].join(' or ')}, and ${kinds} that can be pruned; choose other modules, or name none to prune what can be pruned`,
  );
}

function refusal(refused: readonly Unrecognised[], othersCanBePruned: boolean): UnsupportedModelError {
  const [first] = groupUnrecognised(refused);
  const found =
    first === undefined
      ? 'no module found'
      : `${first.name}: ${first.first.node}: ${first.first.reason} (nearest: ${first.first.nearest})`;
  const remedy = othersCanBePruned
    ? 'Choose other modules, or name none to prune what can be pruned; "describe" tells of all of them'
    : '"describe" tells of all of them';
  return new UnsupportedModelError(
    `${refused.length} modules that were asked for cannot be pruned; ${found}. ${remedy}`,
  );
}
