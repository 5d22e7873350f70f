/** Parts of a transformer and their places, as plain data; made by `detectLayout`, read by every stage. */

/** Parts of a block that can lose units: neurons, heads, or entire experts. */
export const MODULE_KINDS = ['ffn', 'attention', 'experts'] as const;

export type ModuleKind = (typeof MODULE_KINDS)[number];

/**
 * Over all keys; through a state that each head carries along (gated delta rule and the like); or over keys and values that several
 * blocks read and that cannot be cut for all of them together, so that these remain whole while query heads leave.
 */
export type AttentionType = 'full' | 'linear' | 'shared';

/**
 * Parts of a block that are not pruned, whatever is asked for: what mixes tokens in another way than attention does
 * (convolutions, recurrences), what adds a token's per-layer embedding (Gemma 3n and 4), and two linear maps
 * in a row, which have no neurons between them (Laurel of Gemma 3n).
 */
export type StayingKind = 'mixer' | 'per-layer input' | 'low-rank map';

/** A run of the residual stream between two cut points; `modules` index into `ModelLayout.modules`. */
export interface Segment {
  readonly index: number;
  /** Hidden state on the residual stream going in and out. */
  readonly input: string;
  readonly output: string;
  readonly modules: readonly number[];
}

/**
 * The linear map whose input channels are removed: the FFN's `down` or attention's `output`. Of experts it is the operator that
 * mixes them: its input are the router's scores, one channel an expert, and its weight that of the experts' second maps, which is
 * no matrix.
 */
export interface OutputLinear {
  /** Name of the node (or its first output when unnamed), for messages. */
  readonly node: string;
  /** Value holding its input, channels on the last axis. */
  readonly input: string;
  /** Value it writes (before any bias). */
  readonly result: string;
  /** Initializer with its weight, and which of its two axes is the input axis. */
  readonly weight: string;
  readonly inputAxis: 0 | 1;
  readonly inputCount: number;
  readonly outputCount: number;
}

/** Values of a mixture of experts that is written out, between which its experts and its router can be run alone. */
export interface WrittenExperts {
  /** `[tokens, k]`, the experts that each token goes to. */
  readonly chosen: string;
  /** `[tokens, k]`, the shares that the router gives them. */
  readonly shares: string;
  /**
   * Outputs of experts before the shares: one value `[tokens k, channels]` of the chosen experts, or one of `[tokens, channels]` for
   * each expert.
   */
  readonly made: readonly string[];
  /** Initializers of experts that have nodes of their own; stacks of all experts are not among them. */
  readonly weights: readonly string[];
}

/** Neurons inside the experts of a mixture. All experts of a mixture lose as many, each its own. */
export interface ExpertNeurons {
  /** Units of one expert: neurons, or runs of them that can only leave together. */
  readonly unitCount: number;
  /** Neurons of a unit. */
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
  /** Of attention. */
  readonly attentionType?: AttentionType;
  readonly block: number;
  readonly segment: number;
  readonly output: OutputLinear;
  /** Value that feeds the module: the hidden state after the norm, channels on its last axis. */
  readonly input: string;
  readonly unitCount: number;
  /** Unit of every input channel of `output`, ascending. */
  readonly unitOfChannel: Int32Array;
  /** Channels of a unit: 1 for a neuron, the head size for a head, times `headsPerUnit`. */
  readonly unitSize: number;
  /** More than 1 where the graph keeps a KV head together with its query heads, so that they can only go as one. Default 1. */
  readonly headsPerUnit?: number;
  /**
   * KV head of each query head, key head of each value head of linear attention, or group of each expert, where a router chooses
   * groups; absent when every unit can go alone (FFN, MHA).
   */
  readonly groupOfUnit?: Int32Array;
  readonly groupCount?: number;
  /** KV heads of an attention: its groups, one for all heads (multi-query), or as many as heads. */
  readonly kvHeadCount?: number;
  /**
   * Index of the module that makes its keys and values, where several blocks read them (also of that module itself): a KV head leaves
   * all of these at once. Its parameters are those of the module that makes it.
   */
  readonly keyValueSource?: number;
  /** Experts that each token goes to. Of experts. */
  readonly expertsPerToken?: number;
  /** Experts that remain at least, because the router chooses as many. Of experts. */
  readonly leastExperts?: number;
  /** Of experts that no single operator holds. */
  readonly writtenExperts?: WrittenExperts;
  /** Of experts whose neurons can leave. */
  readonly neurons?: ExpertNeurons;
  /** Why they cannot, of experts. */
  readonly neuronsStay?: string;
  /** Whether a norm stands between its output and the residual stream (Gemma's and OLMo 2's norm after attention and FFN). */
  readonly isNormalized?: boolean;
  /** Parameters that leave with a single unit (query side), and with an entire group's shared part. */
  readonly parametersPerUnit: number;
  readonly parametersPerGroup: number;
  /** All prunable parameters of the module, biases included. */
  readonly parameterCount: number;
  /** Human description: `gated ffn`, `grouped-query attention`, ... */
  readonly description: string;
}

/** Something in a block that looks prunable and is not, or that remains, with the reason. */
export interface Unrecognised {
  readonly block: number;
  readonly kind: ModuleKind | StayingKind | 'unknown';
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

/** The stretch of segments that makes up one block. */
export interface BlockSpan {
  readonly block: number;
  /** First and last segment, by `Segment.index`. */
  readonly first: number;
  readonly last: number;
}

/** Blocks as stretches of segments that together cover the residual stream; a segment without modules joins the block before it. */
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

/** Multiplications of the map to the logits, as a multiple of a mean block's; at least 1. */
export function logitsInBlocks(layout: ModelLayout): number {
  const ownParameters = layout.modules.reduce((sum, { parameterCount }) => sum + parameterCount, 0);
  const blockParameters = Math.max(1, ownParameters / blockSpans(layout).length);
  return Math.max(1, (layout.vocabularySize * layout.hiddenSize) / blockParameters);
}
