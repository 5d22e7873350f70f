import { nameBlocks } from '../architecture/group-unrecognised.js';
import type { ModelLayout, PrunableModule } from '../architecture/layout.js';
import { refusal } from '../options/option.js';
import { type ResolvedOptions, readsTokens } from '../options.js';
import type { AnalysedModel } from '../runtime/analyse-model.js';
import { mayRemoveNeurons } from './mixture-steps.js';
import { canRepair } from './repair-experts.js';

/** Refuses options of experts without effect, and a number of experts that some mixture cannot keep. @throws OptionError */
export function refuseExperts({ modules }: Pick<ModelLayout, 'modules'>, options: ResolvedOptions): void {
  const { experts, allExperts, methodName } = options;
  const mixtures = modules.filter(({ kind }) => kind === 'experts');
  const given = [...(experts === undefined ? [] : ['experts']), ...(allExperts ? ['allExperts'] : [])];
  for (const option of given) {
    if (!readsTokens(options))
      throw refusal(option, `has no effect with method ${methodName}, which reads no token; choose another method`);
    if (mixtures.length === 0)
      throw refusal(option, 'has no effect: the model has no mixture of experts that can be pruned; leave it out');
  }
  if (experts === undefined) return;
  for (const { block, unitCount, leastExperts = 1, groupCount = 1 } of mixtures) {
    if (experts > unitCount)
      throw refusal('experts', `is ${experts}; block ${block} has ${unitCount} experts; give at most that number`);
    if (experts < leastExperts)
      throw refusal(
        'experts',
        `is ${experts}; the router of block ${block} chooses among ${leastExperts} experts at least; give at least that number`,
      );
    if (experts % groupCount !== 0)
      throw refusal(
        'experts',
        `is ${experts}; block ${block} has ${groupCount} groups of experts, which stay equal in size; give a multiple of ${groupCount}`,
      );
  }
}

/** Remarks about mixtures in which `allExperts` has no effect, one for each reason. */
export function remarkAllExperts(
  analysed: Pick<AnalysedModel, 'detected'>,
  modules: readonly PrunableModule[],
  options: ResolvedOptions,
): string[] {
  if (!options.allExperts) return [];
  const blocksOf = new Map<string, number[]>();
  for (const module of modules) {
    if (module.kind !== 'experts') continue;
    const reason = reasonAgainstNeurons(analysed, module, options);
    if (reason !== undefined) blocksOf.set(reason, [...(blocksOf.get(reason) ?? []), module.block]);
  }
  return [...blocksOf].map(([reason, blocks]) => `${nameBlocks(blocks)} experts: allExperts has no effect: ${reason}`);
}

/** Why nothing inside the experts of a mixture is ordered or repaired; undefined if something is. */
function reasonAgainstNeurons(
  analysed: Pick<AnalysedModel, 'detected'>,
  module: PrunableModule,
  options: ResolvedOptions,
): string | undefined {
  if (module.neurons === undefined) return module.neuronsObstacle ?? 'their neurons stay';
  if (mayRemoveNeurons(module, options)) return undefined;
  if (options.adapter.needs !== 'gram')
    return `only entire experts are removed, and method ${options.methodName} repairs none`;
  return canRepair(analysed, module)
    ? undefined
    : 'only entire experts are removed, and packed weights are not repaired';
}
