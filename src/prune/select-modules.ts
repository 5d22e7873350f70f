import type { PrunableModule, Unrecognised } from '../architecture/layout.js';
import { OptionError, UnsupportedModelError } from '../errors.js';
import type { PruneJob } from '../prune.js';

/**
 * Modules that may shrink.
 * @throws OptionError for a block that does not exist; UnsupportedModelError when a module that was asked for cannot be pruned.
 */
export function selectModules({ analysed, options }: Pick<PruneJob, 'analysed' | 'options'>): PrunableModule[] {
  const { modules, unrecognised, blockCount } = analysed.detected.layout;
  const { allocation, minimumWidth } = options;
  const leastOf = { ffn: allocation === 'global' && minimumWidth === 0 ? 0 : 1, attention: 1 };
  const selected = modules.filter(({ kind, unitCount }) => options.modules.has(kind) && unitCount > leastOf[kind]);
  const stray = [...options.skipBlocks, ...options.blockSparsity.keys()].find((block) => block >= blockCount);
  if (stray !== undefined)
    throw new OptionError(`block ${stray} does not exist; the model has blocks 0..${blockCount - 1}`);
  const isAsked = ({ kind }: Pick<Unrecognised, 'kind'>) => options.modules.has(kind as PrunableModule['kind']);
  const blocking = unrecognised.filter((part) => part.kind === 'unknown' || isAsked(part));
  if (blocking.length > 0 || !modules.some(isAsked)) {
    // Parts that stay by their kind stand in no one's way, but for that nothing else is there.
    const unknown = blocking.length > 0 ? blocking : unrecognised;
    const [first] = unknown;
    const found = first
      ? `block ${first.block} ${first.kind}: ${first.node}: ${first.reason} (nearest: ${first.nearest})`
      : 'no module found';
    throw new UnsupportedModelError(
      `${unknown.length} modules that were asked for cannot be pruned; ${found}. Choose other modules, or see "describe" for all of them`,
    );
  }
  return selected;
}
