import type { NeuronGroups } from '../grouping/group-neurons.js';
import type { AffinityReport } from './report-schema.js';

export interface AffinityInput {
  /** `[contextCount, neurons]` row-major. */
  readonly affinity: Float64Array;
  readonly contextCount: number;
  readonly groups: NeuronGroups;
  /** Neurons that remain. */
  readonly keep: ArrayLike<number>;
}

/** Columns of a heat map that fits on a phone: eight columns each for the usual eight groups. */
const COLUMN_LIMIT = 64;

/**
 * Averages the affinity matrix over neighbouring neurons for a heat map. The shared group comes first; neurons of a group
 * are sorted by affinity with its context, descending.
 */
export function summariseAffinity({ affinity, contextCount, groups, keep }: AffinityInput): AffinityReport {
  const neuronCount = affinity.length / contextCount;
  const remaining = new Set(Array.from(keep));
  const all = [groups.shared, ...groups.functions];
  const perGroup = Math.max(1, Math.floor(COLUMN_LIMIT / all.filter((members) => members.length > 0).length));
  const strength = (neuron: number, group: number): number => {
    if (group > 0) return affinity[(group - 1) * neuronCount + neuron]!;
    let sum = 0;
    for (let context = 0; context < contextCount; context++) sum += affinity[context * neuronCount + neuron]!;
    return sum;
  };
  const columns = all.flatMap((members, group) => {
    const sorted = [...members].sort((one, other) => strength(other, group) - strength(one, group) || one - other);
    const count = Math.min(perGroup, sorted.length);
    return Array.from({ length: count }, (_, at) => ({
      group,
      neurons: sorted.slice(Math.round((at * sorted.length) / count), Math.round(((at + 1) * sorted.length) / count)),
    }));
  });
  return {
    columns: columns.map(({ group, neurons }) => ({
      group: groups.shared.length > 0 ? group : group - 1,
      neuronCount: neurons.length,
      keptCount: neurons.filter((neuron) => remaining.has(neuron)).length,
    })),
    values: Array.from({ length: contextCount }, (_, context) =>
      columns.map(({ neurons }) => {
        const sum = neurons.reduce((total, neuron) => total + affinity[context * neuronCount + neuron]!, 0);
        return Number((sum / neurons.length).toPrecision(4));
      }),
    ),
  };
}
