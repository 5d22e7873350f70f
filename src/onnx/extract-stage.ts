import type { NodeProto } from 'onnx-buf';
import { type GraphIndex, inputsOf } from './graph-index.js';
import { influencedValues, type Partition } from './partition.js';

/** Nodes that compute some values, and their inputs. */
export interface StageSlice {
  readonly nodes: readonly NodeProto[];
  /** Available values that are read. */
  readonly inputs: readonly string[];
  readonly initializers: readonly string[];
}

/**
 * Extracts the nodes that compute `outputs` from the available values, with weights and constants. Values that are not
 * available are recomputed, such as sizes.
 */
export function extractStage(
  index: GraphIndex,
  { outputs, isAvailable }: { readonly outputs: readonly string[]; isAvailable(value: string): boolean },
): StageSlice {
  const nodes = new Set<number>();
  const inputs = new Set<string>();
  const initializers = new Set<string>();
  const pending = [...outputs];
  const seen = new Set<string>();
  for (let value = pending.pop(); value !== undefined; value = pending.pop()) {
    if (seen.has(value)) continue;
    seen.add(value);
    const producer = index.producerOf.get(value);
    if (index.initializers.has(value)) initializers.add(value);
    else if (producer === undefined || (!index.constants.has(value) && isAvailable(value))) inputs.add(value);
    else {
      nodes.add(producer);
      pending.push(...inputsOf(index.nodes[producer]!));
    }
  }
  return {
    nodes: [...nodes].sort((a, b) => a - b).map((at) => index.nodes[at]!),
    inputs: [...inputs],
    initializers: [...initializers],
  };
}

/**
 * Values other than the hidden state that later stages read, by the stage that computes them: rotary tables, masks,
 * sizes. Values that are only graph outputs (hidden states for another model) are left out.
 */
export function carriedValues(index: GraphIndex, partition: Partition): readonly (readonly string[])[] {
  const carried = partition.stages.map(() => new Set<string>());
  partition.stages.forEach((nodes, stage) => {
    for (const at of nodes) {
      if (isGraphOutput(index.nodes[at]!, index)) continue;
      for (const value of inputsOf(index.nodes[at]!)) {
        const source = partition.stageOf.get(value);
        if (
          source !== undefined &&
          source < stage &&
          index.producerOf.has(value) &&
          !isPrevious(value, partition, stage)
        ) {
          carried[source]?.add(value);
        }
      }
    }
  });
  return carried.map((values) => [...values]);
}

/** A value computed from hidden states that later stages read in addition to the hidden state. */
export interface CarriedHidden {
  readonly name: string;
  /** The stage that computes it. */
  readonly stage: number;
}

/** Carried values computed from the stream: per-layer inputs, shared keys and values. */
export function carriedOf(index: GraphIndex, partition: Partition, from: string): CarriedHidden[] {
  const dependent = influencedValues(index.nodes, [from]);
  return carriedValues(index, partition).flatMap((names, stage) =>
    names.filter((name) => dependent.has(name)).map((name) => ({ name, stage })),
  );
}

const isGraphOutput = ({ output }: NodeProto, { outputs, consumersOf }: GraphIndex): boolean =>
  output.every((value) => outputs.has(value) && !consumersOf.has(value));

const isPrevious = (value: string, { cuts }: Partition, stage: number): boolean => cuts[stage - 1] === value;
