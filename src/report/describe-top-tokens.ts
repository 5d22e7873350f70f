import { sum } from '../linalg/sum.js';
import type { ModuleActivations, TopActivations } from '../prune/top-activations.js';
import { type Decode, describeContexts } from './describe-contexts.js';
import type { TopTokensReport } from './report-schema.js';

/** Tokens that examples are picked from. */
const TYPICAL_COUNT = 64;

/** Tokens by which of a module's units answer them more than usual: those that remain (0), or those that left (1). */
export function describeTopTokens(
  { kept, removed }: ModuleActivations,
  { windows, decode }: Pick<TopActivations, 'windows'> & { readonly decode: Decode | undefined },
): TopTokensReport {
  const total = sum(kept) + sum(removed);
  const keptShare = total === 0 ? 1 : sum(kept) / total;
  const shares = kept.map((value, at) => (value + removed[at]! === 0 ? keptShare : value / (value + removed[at]!)));
  const contextOfToken = Int32Array.from(shares, (share) => (share >= keptShare ? 0 : 1));
  const most = (values: Float64Array, side: number): Int32Array =>
    Int32Array.from(
      Array.from(values.keys())
        .filter((at) => contextOfToken[at] === side)
        .sort((one, other) => values[other]! - values[one]! || one - other)
        .slice(0, TYPICAL_COUNT),
    );
  const contexts = { contextCount: 2, contextOfToken, typicalTokens: [most(kept, 0), most(removed, 1)] };
  const [byKept, byRemoved] = describeContexts({ contexts, windows, decode });
  return { keptShare: Number(keptShare.toPrecision(4)), kept: byKept!, removed: byRemoved! };
}
