import { sum } from '../linalg/sum.js';

/** How routing weights are computed from the router's scores. Rows of `MIXINGS`. */
export type MixingName = keyof typeof MIXINGS;

/** One token's experts, best first. */
export interface RankedExperts {
  /** Experts by falling score; equal scores by index. */
  readonly experts: readonly number[];
  /** Their scores. */
  readonly scores: readonly number[];
  /** `sum exp(score - best)` over all remaining experts, ranked or not. */
  readonly total: number;
}

/**
 * Divisors of routing weights. ONNX Runtime's kernels treat `normalize_routing_weights` differently, so `findRouter` tests
 * the kernel. `exps` are `exp(score - best)` of the chosen experts, `total` the sum over all.
 */
export const MIXINGS = {
  /** A softmax over the chosen experts. */
  chosen: sum,
  /** A softmax over all experts, of which the chosen keep their weights. */
  all: (_: readonly number[], total: number) => total,
} as const satisfies Record<string, (exps: readonly number[], total: number) => number>;

/**
 * The best experts of a token among those that remain.
 * @param scores The router's, of one token.
 */
export function rankExperts(scores: Float32Array, remaining: Uint8Array, count: number): RankedExperts {
  const experts: number[] = [];
  for (let expert = 0; expert < scores.length; expert += 1) {
    if (remaining[expert] === 0) continue;
    let at = experts.length;
    while (at > 0 && scores[experts[at - 1]!]! < scores[expert]!) at -= 1;
    if (at >= count) continue;
    experts.splice(at, 0, expert);
    if (experts.length > count) experts.pop();
  }
  const best = scores[experts[0] ?? 0]!;
  let total = 0;
  scores.forEach((score, expert) => {
    if (remaining[expert] === 1) total += Math.exp(score - best);
  });
  return { experts, scores: experts.map((expert) => scores[expert]!), total };
}

/**
 * Routing weights of the first `count` ranked experts, by rank.
 * @param without A rank to skip, as if its expert were removed: the next in the order takes its place.
 */
export function routingWeightsOf(
  { scores, total }: RankedExperts,
  mixing: MixingName,
  { count, without }: { readonly count: number; readonly without?: number },
): Float64Array {
  const shares = new Float64Array(scores.length);
  const best = scores[0] ?? 0;
  const exps = scores.map((score) => Math.exp(score - best));
  const chosen = exps
    .map((_, rank) => rank)
    .filter((rank) => rank !== without)
    .slice(0, count);
  const left = total - (without === undefined ? 0 : exps[without]!);
  const divisor = MIXINGS[mixing](
    chosen.map((rank) => exps[rank]!),
    left,
  );
  if (divisor > 0) {
    for (const rank of chosen) shares[rank] = exps[rank]! / divisor;
    return shares;
  }
  // All are 0 if the skipped expert's score is far larger, so they are scaled by the best of the others.
  const scaled = chosen.map((rank) => Math.exp(scores[rank]! - scores[chosen[0]!]!));
  const scaledTotal = sum(scaled);
  chosen.forEach((rank, at) => {
    shares[rank] = scaled[at]! / scaledTotal;
  });
  return shares;
}
