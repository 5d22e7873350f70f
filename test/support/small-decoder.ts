import { createGraphBuilder, type GraphBuilder } from './graph-builder.js';

/** Sizes of the decoders of tests: hidden, heads, head size, neurons, vocabulary. */
export const [HIDDEN, HEADS, HEAD_SIZE, NEURONS, VOCABULARY] = [16, 4, 4, 24, 40];

/** What a block's parts are built from. */
export interface BlockSite {
  readonly g: GraphBuilder;
  readonly block: number;
  /** `[1, 1, S, L]`: 0, or very low where a token lies in the future. */
  readonly mask: string;
  /** Positions of the tokens, int64 `[S]`, and of the keys, `[L]`. */
  readonly rows: string;
  readonly columns: string;
}

/** Part of a block: from the hidden state (normed or not) to what is added to it. */
export type Part = (site: BlockSite, x: string) => string;

export interface DecoderShape {
  readonly attention?: Part;
  readonly ffn?: Part;
  /** From a hidden state to the next. Default: pre-norm, one after the other. */
  readonly compose?: (site: BlockSite, x: string, parts: { readonly attention: Part; readonly ffn: Part }) => string;
  /** Before the first and after the last block. */
  readonly before?: (g: GraphBuilder, x: string) => string;
  readonly after?: (g: GraphBuilder, x: string) => string;
  /** From the last norm's output to that of one token, the only one with logits. */
  readonly takeLast?: (g: GraphBuilder, x: string) => string;
  /** Windows together; default any number. */
  readonly batchSize?: number;
  /** Tokens of a window; default any number. */
  readonly windowLength?: number;
  readonly embeddingSize?: number;
  /** A token whose row of the embedding table is zero. */
  readonly zeroToken?: number;
  readonly blockCount?: number;
  readonly opset?: number;
}

/** Builds a decoder with a KV cache, two blocks and random weights. */
export function buildDecoder(shape: DecoderShape = {}): Uint8Array {
  const { attention = selfAttention(), ffn = plainFfn, compose = preNorm, blockCount = 2, opset = 17 } = shape;
  const size = shape.embeddingSize ?? HIDDEN;
  const g = createGraphBuilder({ opset });
  const { batchSize = 'batch', windowLength = 'sequence' } = shape;
  const tokens = g.input('input_ids', 7, [batchSize, windowLength]);
  const attended = g.input('attention_mask', 7, [batchSize, 'total']);
  const sizeOf = (x: string) => g.op('Gather', [g.op('Shape', [x]), g.intScalar(1)], { axis: 0 });
  const [length, total] = [sizeOf(tokens), sizeOf(attended)];
  const one = g.intScalar(1);
  const columns = g.op('Range', [g.intScalar(0), total, one]);
  const rows = g.op('Range', [g.op('Sub', [total, length]), total, one]);
  const future = g.op('Less', [g.op('Unsqueeze', [rows, g.ints(1)]), g.op('Unsqueeze', [columns, g.ints(0)])]);
  const mask = g.op('Where', [future, g.scalar(-1e9), g.scalar(0)]);
  let x = g.op('Gather', [embeddingTable(g, size, shape.zeroToken), tokens]);
  x = shape.before?.(g, x) ?? x;
  for (let block = 0; block < blockCount; block += 1) {
    x = compose({ g, block, mask, rows, columns }, x, { attention, ffn });
  }
  x = shape.after?.(g, x) ?? x;
  const normed = layerNorm(g, x, size);
  const head = g.weight([size, VOCABULARY]);
  g.named('logits', 'MatMul', [shape.takeLast?.(g, normed) ?? normed, head]);
  g.output('logits', 1, ['batch', shape.takeLast === undefined ? 'sequence' : 1, VOCABULARY]);
  return g.bytes();
}

function embeddingTable(g: GraphBuilder, size: number, zeroToken: number | undefined): string {
  if (zeroToken === undefined) return g.weight([VOCABULARY, size], 1);
  const isZero = (at: number) => Math.floor(at / size) === zeroToken;
  const values = Array.from({ length: VOCABULARY * size }, (_, at) => (isZero(at) ? 0 : Math.sin(at * at)));
  return g.floats([VOCABULARY, size], values);
}

const preNorm: NonNullable<DecoderShape['compose']> = (site, x, { attention, ffn }) => {
  const { g } = site;
  const middle = g.op('Add', [x, attention(site, layerNorm(g, x))]);
  return g.op('Add', [middle, ffn(site, layerNorm(g, middle))]);
};

export const layerNorm = (g: GraphBuilder, x: string, size = HIDDEN): string =>
  g.op('LayerNormalization', [x, g.weight([size], 0.2, 1), g.weight([size], 0.1)], { axis: -1 });

/** x W + b. */
export const linear = (g: GraphBuilder, x: string, from: number, to: number): string =>
  g.op('Add', [g.op('MatMul', [x, g.weight([from, to])]), g.weight([to], 0.2)]);

export const plainFfn: Part = ({ g }, x) => linear(g, g.op('Relu', [linear(g, x, HIDDEN, NEURONS)]), NEURONS, HIDDEN);

/** The part with a running sum over its outputs, through which channels cannot be followed. */
export const unprunable =
  (part: Part): Part =>
  (site, x) =>
    linear(site.g, site.g.op('CumSum', [part(site, x), site.g.intScalar(2)]), HIDDEN, HIDDEN);

/** Query, key and value as `[B, heads, S, D]`, key and value before the cache. */
export interface Heads {
  readonly query: string;
  readonly key: string;
  readonly value: string;
  /** KV heads in the cache. */
  readonly kvHeads: number;
}

export interface AttentionShape {
  readonly project?: (site: BlockSite, x: string) => Heads;
  /** From a cache input to the value that new keys or values are appended to. */
  readonly cached?: (g: GraphBuilder, past: string) => string;
  /** Key or value with the cache, `[B, K, L, D]`, to what the products read. */
  readonly spread?: (g: GraphBuilder, x: string) => string;
  /** Added to the scores before the mask. */
  readonly bias?: (site: BlockSite) => string;
}

/** Attention in primitive operators, with a cache. */
export function selfAttention(shape: AttentionShape = {}): Part {
  const { project = separate(HEADS), cached = (_, past) => past, spread = (_, x) => x, bias } = shape;
  return (site, x) => {
    const { g, block, mask } = site;
    const { query, key, value, kvHeads } = project(site, x);
    const dims = (tokens: string) => ['batch', kvHeads, tokens, HEAD_SIZE];
    const [keys, values] = (['key', 'value'] as const).map((kind) => {
      const past = g.input(`past_key_values.${block}.${kind}`, 1, dims('past_sequence_length'));
      const present = g.named(`present.${block}.${kind}`, 'Concat', [cached(g, past), kind === 'key' ? key : value], {
        axis: 2,
      });
      g.output(present, 1, dims('total'));
      return spread(g, present);
    }) as [string, string];
    const transposed = g.op('Transpose', [keys], { perm: [0, 1, 3, 2] });
    const scores = g.op('Mul', [g.op('MatMul', [query, transposed]), g.scalar(1 / Math.sqrt(HEAD_SIZE))]);
    const biased = bias ? g.op('Add', [scores, bias(site)]) : scores;
    const probabilities = g.op('Softmax', [g.op('Add', [biased, mask])], { axis: -1 });
    const mixed = g.op('Transpose', [g.op('MatMul', [probabilities, values])], { perm: [0, 2, 1, 3] });
    return linear(g, g.op('Reshape', [mixed, g.ints(0, 0, HIDDEN)]), HIDDEN, HIDDEN);
  };
}

/** `[B, S, heads D]` to `[B, heads, S, D]`. */
export const toHeads = (g: GraphBuilder, x: string, heads: number): string =>
  g.op('Transpose', [g.op('Reshape', [x, g.ints(0, 0, heads, HEAD_SIZE)])], { perm: [0, 2, 1, 3] });

/** Three linear layers. */
export function separate(kvHeads: number) {
  return ({ g }: BlockSite, x: string): Heads => {
    const make = (heads: number) => toHeads(g, linear(g, x, HIDDEN, heads * HEAD_SIZE), heads);
    return { query: make(HEADS), key: make(kvHeads), value: make(kvHeads), kvHeads };
  };
}

/** Copies each KV head for its query heads, as exporters of Llama do. */
export function repeatHeads(kvHeads: number) {
  return (g: GraphBuilder, x: string): string => {
    const members = HEADS / kvHeads;
    const apart = g.op('Unsqueeze', [x, g.ints(2)]);
    const expanded = g.op('Expand', [apart, g.ints(1, 1, members, 1, 1)]);
    return g.op('Reshape', [expanded, g.ints(0, HEADS, -1, HEAD_SIZE)]);
  };
}

/** Taps of a short convolution. */
const TAPS = 3;

/** A gated convolution over the last few tokens, as LFM2 has in place of most attentions, with a state. */
export const shortConvolution: Part = ({ g, block }, x) => {
  const channelsFirst = g.op('Transpose', [linear(g, x, HIDDEN, 3 * HIDDEN)], { perm: [0, 2, 1] });
  const split = g.ints(HIDDEN, HIDDEN, HIDDEN);
  const [before, after, value] = g.ops('Split', [channelsFirst, split], 3, { axis: 1 }) as [string, string, string];
  const past = g.input(`past.${block}.conv`, 1, ['batch', HIDDEN, TAPS - 1]);
  const weight = g.weight([HIDDEN, 1, TAPS], 0.5);
  const made = [`convolved.${block}`, `present.${block}.conv`];
  g.ops('CausalConvWithState', [g.op('Mul', [before, value]), weight, '', past], made, { ndim: 1 }, 'com.microsoft');
  g.output(made[1]!, 1, ['batch', HIDDEN, TAPS - 1]);
  const tokensFirst = g.op('Transpose', [g.op('Mul', [after, made[0]!])], { perm: [0, 2, 1] });
  return linear(g, tokensFirst, HIDDEN, HIDDEN);
};

/** Each token goes to two of three experts, all in one operator. */
export const fusedExperts: Part = ({ g }, x) => {
  const scores = g.op('Reshape', [linear(g, x, HIDDEN, 3), g.ints(-1, 3)]);
  const maps = [g.weight([3, 2 * NEURONS, HIDDEN], 0.2), '', g.weight([3, HIDDEN, NEURONS], 0.2)];
  const attributes = { k: 2, normalize_routing_weights: 1, activation_type: 'swiglu', swiglu_fusion: 1 };
  return g.op('MoE', [x, scores, ...maps], attributes, 'com.microsoft');
};

/** A mixture of experts, and a gated FFN for every token, weighted by a gate of its own (Qwen2-MoE). */
export const withSharedExpert =
  (mixture: Part): Part =>
  (site, x) => {
    const { g } = site;
    const gate = g.op('Sigmoid', [g.op('MatMul', [x, g.weight([HIDDEN, 1])])]);
    const [first, second] = [0, 1].map(() => linear(g, x, HIDDEN, NEURONS)) as [string, string];
    const inner = g.op('Mul', [g.op('Mul', [first, g.op('Sigmoid', [first])]), second]);
    return g.op('Add', [mixture(site, x), g.op('Mul', [linear(g, inner, NEURONS, HIDDEN), gate])]);
  };

/** Norms on what is added (OLMo 2), or around it (GLM-4, Gemma 2). */
export const postNorm: NonNullable<DecoderShape['compose']> = (site, x, { attention, ffn }) => {
  const { g } = site;
  const middle = g.op('Add', [x, layerNorm(g, attention(site, x))]);
  return g.op('Add', [middle, layerNorm(g, ffn(site, layerNorm(g, middle)))]);
};
