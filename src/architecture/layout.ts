/** Parts of a transformer and their places, as plain data: output of `detectLayout`, input of every stage. */

/** Parts of a block that can lose units: neurons, heads, or entire experts. */
export const MODULE_KINDS = ['ffn', 'attention', 'experts'] as const;

export type ModuleKind = (typeof MODULE_KINDS)[number];

/**
 * `full`: over all keys. `linear`: through a recurrent state per head (gated delta rule and the like). `shared`: over
 * keys and values that several blocks read and that cannot be pruned for all of them, so that only query heads are
 * removed.
 */
export type AttentionType = 'full' | 'linear' | 'shared';

/**
 * Parts of a block that are never pruned: token mixers other than attention (convolutions, recurrences), per-layer
 * embeddings (Gemma 3n and 4), and two consecutive linear layers without neurons between them (Laurel of Gemma 3n).
 */
export type UnprunableKind = 'mixer' | 'per-layer input' | 'low-rank layer';

/** A run of the residual stream between two cut points; `modules` index into `ModelLayout.modules`. */
export interface Segment {
  readonly index: number;
  /** Hidden state on the residual stream going in and out. */
  readonly input: string;
  readonly output: string;
  readonly modules: readonly number[];
}

/**
 * The linear layer whose input channels are removed: the FFN's `down` or attention's `output`. For experts it is the
 * operator that combines them: its input is the router's scores, one channel per expert, and its weight that of the
 * experts' second linear layers, which is not a matrix.
 */
export interface OutputLinear {
  /** Name of the node (or its first output when unnamed), for messages. */
  readonly node: string;
  /** Its input, channels on the last axis. */
  readonly input: string;
  /** Its output, before any bias. */
  readonly result: string;
  /** Initializer with its weight, and which of its two axes is the input axis. */
  readonly weight: string;
  readonly inputAxis: 0 | 1;
  readonly inputCount: number;
  readonly outputCount: number;
}

/** Values of an unfused mixture, between which its experts and its router can be run separately. */
export interface UnfusedExperts {
  /** `[tokens, k]`: the chosen experts of each token. */
  readonly chosen: string;
  /** `[tokens, k]`: their routing weights. */
  readonly routingWeights: string;
  /**
   * Outputs of experts before the routing weights: one value `[tokens k, channels]` of the chosen experts, or one of
   * `[tokens, channels]` for each expert.
   */
  readonly outputs: readonly string[];
  /** Initializers of experts with their own nodes; stacks of all experts are not included. */
  readonly weights: readonly string[];
}

/** Neurons inside the experts of a mixture. All experts of a mixture lose the same number, each its own. */
export interface ExpertNeurons {
  /** Units of one expert: neurons, or runs of neurons that can only be removed together. */
  readonly unitCount: number;
  /** Neurons per unit. */
  readonly unitSize: number;
  /** Parameters of one unit of one expert. */
  readonly parametersPerUnit: number;
}

/**
 * A part of a block whose width can shrink. Units are what is removed: neurons, heads, or experts.
 * For grouped-query attention `groupOfUnit` names the KV group of each query head.
 */
export interface PrunableModule {
  readonly index: number;
  readonly kind: ModuleKind;
  /** Only of attention. */
  readonly attentionType?: AttentionType;
  readonly block: number;
  readonly segment: number;
  readonly output: OutputLinear;
  /** Input of the module: the hidden state after the norm, channels on its last axis. */
  readonly input: string;
  readonly unitCount: number;
  /** Unit of every input channel of `output`, ascending. */
  readonly unitOfChannel: Int32Array;
  /** Channels of a unit: 1 for a neuron, the head size for a head, times `headsPerUnit`. */
  readonly unitSize: number;
  /** More than 1 where a KV head can only be removed together with its query heads. Default 1. */
  readonly headsPerUnit?: number;
  /**
   * KV head of each query head, key head of each value head of linear attention, or group of each expert, where a
   * router chooses groups; absent when every unit can be removed alone (FFN, MHA).
   */
  readonly groupOfUnit?: Int32Array;
  readonly groupCount?: number;
  /** KV heads of an attention: its groups, one for all heads (multi-query), or one per head. */
  readonly kvHeadCount?: number;
  /**
   * Index of the module that computes its keys and values, where several blocks read them (also of that module itself):
   * a KV head is removed from all of them together, and counts as parameters of the module that computes it.
   */
  readonly keyValueSource?: number;
  /** Experts per token (top-k). Only of experts. */
  readonly expertsPerToken?: number;
  /** Experts that must remain, because the router chooses that many. Only of experts. */
  readonly leastExperts?: number;
  /** Only of unfused experts. */
  readonly unfusedExperts?: UnfusedExperts;
  /** Only of experts whose neurons can be removed. */
  readonly neurons?: ExpertNeurons;
  /** Why neurons inside experts cannot be removed. */
  readonly neuronsObstacle?: string;
  /** Whether a norm is between its output and the residual stream (Gemma's and OLMo 2's norm after attention and FFN). */
  readonly isNormalized?: boolean;
  /** Parameters removed with one unit (query side), and with the shared part of a group. */
  readonly parametersPerUnit: number;
  readonly parametersPerGroup: number;
  /** All prunable parameters of the module, biases included. */
  readonly parameterCount: number;
  /** For people: `gated ffn`, `grouped-query attention`, ... */
  readonly description: string;
}

/** A part of a block that cannot be pruned, with the reason. */
export interface Unrecognised {
  readonly block: number;
  readonly kind: ModuleKind | UnprunableKind | 'unknown';
  /** Node where recognition ended. */
  readonly node: string;
  readonly opType: string;
  readonly reason: string;
  /** The structure that came closest. */
  readonly nearest: string;
}

export interface ModelLayout {
  readonly hiddenSize: number;
  readonly vocabularySize: number;
  readonly blockCount: number;
  readonly segments: readonly Segment[];
  readonly modules: readonly PrunableModule[];
  readonly unrecognised: readonly Unrecognised[];
  /** All parameters of the model, prunable or not. */
  readonly parameterCount: number;
  /** Initializers with a row for each token that blocks read besides the hidden state (per-layer embeddings of Gemma 3n and 4). */
  readonly perLayerTables: readonly string[];
  readonly logits: string;
}

/** The segments of one block, which are consecutive. */
export interface BlockSpan {
  readonly block: number;
  /** First and last segment, by `Segment.index`. */
  readonly first: number;
  readonly last: number;
}

/** Segments of each block, which together cover the residual stream; a segment without modules belongs to the block before it. */
export function blockSpans({ segments, modules }: ModelLayout): BlockSpan[] {
  const spans: { block: number; first: number; last: number }[] = [];
  for (const segment of segments) {
    const block = modules.find((module) => segment.modules.includes(module.index))?.block;
    const open = spans.at(-1);
    if (open !== undefined && (block === undefined || block === open.block)) open.last = segment.index;
    else spans.push({ block: block ?? 0, first: segment.index, last: segment.index });
  }
  return spans;
}

/** Multiplications of the LM head, as a multiple of a mean block's; at least 1. */
export function logitsInBlocks(layout: ModelLayout): number {
  const ownParameters = layout.modules.reduce((sum, { parameterCount }) => sum + parameterCount, 0);
  const blockParameters = Math.max(1, ownParameters / blockSpans(layout).length);
  return Math.max(1, (layout.vocabularySize * layout.hiddenSize) / blockParameters);
}
