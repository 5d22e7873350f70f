import { sum } from '../linalg/sum.js';
import type { MixtureRouting } from '../prune/measure-dense/dense-measures.js';
import type { RoutingReport } from './report-schema.js';

/** Tokens of each context by expert, and the mutual information of contexts and experts. */
export function describeRouting({ contexts, tokens }: Pick<MixtureRouting, 'tokens'> & RoutedContexts): RoutingReport {
  const { contextCount } = contexts;
  const expertCount = tokens.length / contextCount;
  const rows = Array.from({ length: contextCount }, (_, context) =>
    tokens.subarray(context * expertCount, (context + 1) * expertCount),
  );
  return {
    tokens: rows.map((row) => [...row]),
    mutualInformation: Number(normalisedMutualInformation(rows).toPrecision(4)),
  };
}

interface RoutedContexts {
  readonly contexts: Pick<MixtureRouting['contexts'], 'contextCount'>;
}

/**
 * Mutual information of the rows and columns of a table of counts, divided by the mean of their entropies: 0 if they are
 * independent, or there is one row or column; 1 if each determines the other.
 *
 * @see Vinh, Epps and Bailey, "Information Theoretic Measures for Clusterings Comparison" (JMLR 11, 2010): NMI sum
 */
export function normalisedMutualInformation(rows: readonly ArrayLike<number>[]): number {
  const ofRows = rows.map((row) => sum(Array.from(row)));
  const ofColumns = Array.from(rows[0] ?? [], (_, column) => rows.reduce((sum, row) => sum + row[column]!, 0));
  const cells = rows.flatMap((row) => Array.from(row));
  const [marginal, joint] = [entropy(ofRows) + entropy(ofColumns), entropy(cells)];
  return marginal > 0 ? Math.max(0, (2 * (marginal - joint)) / marginal) : 0;
}

/** Entropy of a distribution given by counts, in nats. */
function entropy(counts: readonly number[]): number {
  const total = sum(counts);
  return counts.reduce((sum, count) => (count === 0 ? sum : sum - (count / total) * Math.log(count / total)), 0);
}
