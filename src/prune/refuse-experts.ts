import type { ModelLayout } from '../architecture/layout.js';
import { refusal } from '../options/option.js';
import { type ResolvedOptions, readsTokens } from '../options.js';

/** Refuses a number of experts that some mixture of a model cannot keep. @throws OptionError */
export function refuseExperts({ modules }: Pick<ModelLayout, 'modules'>, options: ResolvedOptions): void {
  const { experts, methodName } = options;
  if (experts === undefined) return;
  if (!readsTokens(options))
    throw refusal('experts', `has no effect with method ${methodName}, which reads no token; choose another method`);
  const mixtures = modules.filter(({ kind }) => kind === 'experts');
  if (mixtures.length === 0)
    throw refusal('experts', 'has no effect: the model has no mixture of experts that can be pruned; leave it out');
  for (const { block, unitCount, leastExperts = 1, groupCount = 1 } of mixtures) {
    if (experts > unitCount)
      throw refusal('experts', `is ${experts}; block ${block} has ${unitCount} experts; ask for at most as many`);
    if (experts < leastExperts)
      throw refusal(
        'experts',
        `is ${experts}; the router of block ${block} chooses among ${leastExperts} experts at least; ask for as many`,
      );
    if (experts % groupCount !== 0)
      throw refusal(
        'experts',
        `is ${experts}; block ${block} has ${groupCount} groups of experts, which stay equal in size; ask for a multiple of ${groupCount}`,
      );
  }
}
