import { groupUnrecognised } from '../architecture/group-unrecognised.js';
import type { ModuleKind, PrunableModule, Unrecognised } from '../architecture/layout.js';
import { OptionError, UnsupportedModelError } from '../errors.js';
import { mayTakeWholeFfns, type ResolvedOptions } from '../options.js';
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
  const leastOf = { ffn: mayTakeWholeFfns(options) ? 0 : 1, attention: 1 };
  const stray = [...options.skipBlocks, ...options.blockSparsity.keys()].find((block) => block >= blockCount);
  if (stray !== undefined) {
    const option = options.skipBlocks.has(stray) ? 'skipBlocks' : 'blockSparsity';
    throw new OptionError(`${option} names block ${stray}; the model has blocks 0..${blockCount - 1}`, { option });
  }
  const asked = modules.filter(({ kind }) => options.modules.has(kind));
  const staying = unrecognised.filter(({ kind }) => {
    const asked = kindAsked(kind);
    return asked === undefined || options.modules.has(asked);
  });
  const refused = asked.length === 0 ? staying : staying.filter((found) => wasNamed(options, found, asked));
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
  const selected = even.filter(({ kind, unitCount }) => unitCount > leastOf[kind]);
  const burden = describeBurden(selected, staying, { analysed, options });
  return { modules: selected, burden, remarks: [...(isWhole(options) ? burden : []), ...remarks] };
}

const UNITS = { attention: 'heads', ffn: 'neurons' } as const satisfies Record<ModuleKind, string>;

/** Whether the sparsity is that of the whole run, not of one of its rounds. */
const isWhole = ({ denseWidths }: ResolvedOptions): boolean => denseWidths === undefined;

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
  if (kind === 'experts') return 'ffn';
  if (kind === 'mixer') return 'attention';
  return kind === 'ffn' || kind === 'attention' ? kind : undefined;
}

/** Who names attention names nothing else that mixes tokens, and who names FFNs no experts where there are FFNs. */
function wasNamed(
  { modulesNamed, blockSparsity }: ResolvedOptions,
  { block, kind }: Unrecognised,
  modules: readonly PrunableModule[],
): boolean {
  if (kind === 'mixer' || kind === 'per-layer input' || kind === 'low-rank map') return false;
  const own = blockSparsity.get(block);
  const asked = kindAsked(kind);
  const namedByBlock = typeof own === 'object' && asked !== undefined && own[asked] !== undefined;
  if (kind !== 'experts') return modulesNamed || namedByBlock;
  const ffns = modules.filter((module) => module.kind === 'ffn');
  return (modulesNamed && ffns.length === 0) || (namedByBlock && ffns.every((module) => module.block !== block));
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
