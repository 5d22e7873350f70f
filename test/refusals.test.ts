import type { Unrecognised } from '../src/architecture/layout.js';
import { EngineError, UnsupportedModelError } from '../src/errors.js';
import type { PruneOptions } from '../src/options.js';
import { describeModel } from '../src/report/describe-model.js';
import { createGraphBuilder, type GraphBuilder } from './support/graph-builder.js';
import {
  buildDecoder,
  type DecoderShape,
  HIDDEN,
  layerNorm,
  linear,
  NEURONS,
  type Part,
  selfAttention,
  shortConvolution,
  VOCABULARY,
} from './support/small-decoder.js';
import { loadTinyLlama, pruneLoaded, someWindows } from './support/tiny-llama.js';

/** A model of the inputs, nodes and outputs that `write` adds. */
function build(write: (g: GraphBuilder) => void): Uint8Array {
  const g = createGraphBuilder();
  write(g);
  return g.bytes();
}

const embed = (g: GraphBuilder, tokens = 'input_ids'): string => {
  g.input(tokens, 7, ['batch', 'sequence']);
  return g.op('Gather', [g.weight([VOCABULARY, HIDDEN], 1), tokens]);
};

/** One block with bidirectional attention. */
const encode = (g: GraphBuilder, x: string): string => {
  const [query, key, value] = [0, 1, 2].map(() => linear(g, x, HIDDEN, HIDDEN)) as [string, string, string];
  const scores = g.op('MatMul', [query, g.op('Transpose', [key], { perm: [0, 2, 1] })]);
  const mixed = g.op('MatMul', [g.op('Softmax', [scores], { axis: -1 }), value]);
  const middle = layerNorm(g, g.op('Add', [x, linear(g, mixed, HIDDEN, HIDDEN)]));
  return layerNorm(
    g,
    g.op('Add', [middle, linear(g, g.op('Relu', [linear(g, middle, HIDDEN, NEURONS)]), NEURONS, HIDDEN)]),
  );
};

const addLogits = (g: GraphBuilder, name: string, x: string, width: number): void => {
  g.named(name, 'MatMul', [x, g.weight([HIDDEN, width])]);
  g.output(name, 1, ['batch', 'sequence', width]);
};

const MODELS: readonly (readonly [string, (g: GraphBuilder) => void, RegExp])[] = [
  [
    'a vision model',
    (g) => {
      g.input('pixel_values', 1, ['batch', 3, 8, 8]);
      g.named('logits', 'Identity', ['pixel_values']);
      g.output('logits', 1, ['batch', 3, 8, 8]);
    },
    /"pixel_values" is not a known input of text decoders.*images/,
  ],
  [
    'the decoder of an encoder-decoder',
    (g) => {
      const x = embed(g);
      g.input('encoder_hidden_states', 1, ['batch', 'encoded', HIDDEN]);
      addLogits(g, 'logits', encode(g, x), VOCABULARY);
    },
    /"encoder_hidden_states" comes from an encoder.*choose a decoder-only/,
  ],
  [
    'the decoder of an encoder-decoder, later step',
    (g) => {
      const x = embed(g);
      g.input('encoder_attention_mask', 7, ['batch', 'encoded']);
      g.input('past_key_values.0.encoder.key', 1, ['batch', 2, 'encoded', 4]);
      addLogits(g, 'logits', encode(g, x), VOCABULARY);
    },
    /"encoder_attention_mask" comes from an encoder/,
  ],
  [
    'a decoder with a cross-attention cache',
    (g) => {
      const x = embed(g);
      g.input('past_key_cross_0', 1, ['batch', 2, 'encoded', 4]);
      addLogits(g, 'logits', encode(g, x), VOCABULARY);
    },
    /"past_key_cross_0" comes from an encoder/,
  ],
  [
    'a merged encoder-decoder',
    (g) => {
      const x = embed(g);
      g.input('encoder_hidden_states', 1, ['batch', 'encoded', HIDDEN]);
      g.op('If', [x]);
      addLogits(g, 'logits', x, VOCABULARY);
    },
    /"encoder_hidden_states" comes from an encoder/,
  ],
  [
    'an encoder with a language model head',
    (g) => addLogits(g, 'logits', encode(g, embed(g)), VOCABULARY),
    /later ones; encoders/,
  ],
  [
    'an encoder that returns hidden states',
    (g) => addLogits(g, 'last_hidden_state', encode(g, embed(g)), HIDDEN),
    /hidden states, not logits/,
  ],
  [
    'a classifier',
    (g) => {
      const first = g.op('Gather', [encode(g, embed(g)), g.intScalar(0)], { axis: 1 });
      g.named('logits', 'MatMul', [first, g.weight([HIDDEN, 3])]);
      g.output('logits', 1, ['batch', 3]);
    },
    /expected \[batch, window, vocabulary\]; classifiers/,
  ],
  [
    'a 4-bit model',
    (g) => {
      const x = embed(g);
      g.op('MatMulNBits', [x, g.weight([1]), g.weight([1])], {}, 'com.microsoft');
      addLogits(g, 'logits', x, VOCABULARY);
    },
    /MatMulNBits "node\/MatMulNBits_1_3".*quantised to a few bits/,
  ],
  [
    'a decoder with a paged cache',
    (g) => {
      const x = embed(g);
      g.input('block_table', 6, ['batch', 'blocks']);
      addLogits(g, 'logits', encode(g, x), VOCABULARY);
    },
    /"block_table" belongs to a paged KV cache/,
  ],
  [
    'a decoder with a quantised cache',
    (g) => {
      const x = embed(g);
      g.input('past_key_values.0.key', 3, ['batch', 2, 'past', 4]);
      addLogits(g, 'logits', encode(g, x), VOCABULARY);
    },
    /"past_key_values.0.key" is int8; expected float or float16.*prune that/,
  ],
  [
    'a merged decoder',
    (g) => {
      const head = g.weight([HIDDEN, VOCABULARY]);
      const table = g.weight([VOCABULARY, HIDDEN], 1);
      const [tokens, isCached] = [g.input('input_ids', 7, ['batch', 'sequence']), g.input('use_cache_branch', 9, [1])];
      const decode = () => g.op('MatMul', [encode(g, g.op('Gather', [table, tokens])), head]);
      // biome-ignore lint/suspicious/noThenProperty: the branch's name in ONNX
      g.output(g.choose(isCached, { then: decode, else: decode }), 1, ['batch', 'sequence', VOCABULARY]);
    },
    /If "node\/If_0_2".*merged decoder.*decoder_with_past_model\.onnx/,
  ],
];

describe.each(MODELS)('%s', (_, write, expected) => {
  it('is refused with a typed error', async () => {
    const loading = loadTinyLlama(build(write));
    await expect(loading).rejects.toThrow(UnsupportedModelError);
    await expect(loading).rejects.toThrow(expected);
  });
});

const UNRUNNABLE: readonly (readonly [string, (g: GraphBuilder, x: string) => string, RegExp])[] = [
  [
    'an operator for another device',
    (g, x) => g.op('GemmFastGelu', [x, g.weight([HIDDEN, HIDDEN])], {}, 'com.microsoft'),
    /has no kernel for GemmFastGelu \(version 1\): com.microsoft.GemmFastGelu "node\/.*build the model for the CPU/,
  ],
  [
    'an operator that does not exist',
    (g, x) => g.op('Foo', [x]),
    /does not know the operator Foo; export the model with operators of ONNX.*operators of one's own/,
  ],
  [
    'an operator that its kernel refuses at run time',
    (g, x) => g.op('Reshape', [x, g.ints(5, -1, HIDDEN)]),
    /has a kernel that does not support the attributes or inputs of this model: Reshape "node\/Reshape.*--verbose/,
  ],
  [
    'a fused operator that its kernel refuses',
    (g, x) => {
      const cache = ['key', 'value'].map((name) => g.input(`past_key_values.0.${name}`, 1, ['batch', 2, 'past', 8]));
      const lengths = g.op('Cast', [g.ints(1, 1)], { to: 6 });
      const inputs = [x, x, x, ...cache, lengths, g.op('Cast', [g.ints(2)], { to: 6 })];
      return g.op('GroupQueryAttention', inputs, { num_heads: 2, kv_num_heads: 2 }, 'com.microsoft');
    },
    /kernel that does not support.*com.microsoft.GroupQueryAttention "node\/.*onnxruntime-genai: -e cpu/,
  ],
];

describe.each(UNRUNNABLE)('%s', (_, write, expected) => {
  it("is refused with the library's message, and ONNX Runtime's error as the cause", async () => {
    const loading = loadTinyLlama(build((g) => addLogits(g, 'logits', write(g, embed(g)), VOCABULARY)));
    const error = await loading.then(
      () => undefined,
      (found: unknown) => found,
    );
    expect(error).toBeInstanceOf(UnsupportedModelError);
    const { message, cause } = error as UnsupportedModelError;
    expect(message).toMatch(expected);
    expect(message).not.toMatch(/Status Message|invalid model|Could not find/);
    expect(cause).toBeInstanceOf(EngineError);
  });
});

/** Unsupported experts: each token is routed to the better of two. */
const experts: Part = ({ g }, x) => {
  const scores = g.op('Softmax', [g.op('MatMul', [x, g.weight([HIDDEN, 2])])], { axis: -1 });
  const [best] = g.ops('TopK', [scores, g.ints(1)], 2, { axis: -1 }) as [string, string];
  const made = [0, 1].map(() => linear(g, g.op('Relu', [linear(g, x, HIDDEN, NEURONS)]), NEURONS, HIDDEN));
  return g.op('Mul', [g.op('Add', made as [string, string]), best]);
};

/** Weights of the second linear layer as 8-bit numbers with a scale. */
const quantised: Part = ({ g }, x) => {
  const packed = g.op('Cast', [g.weight([NEURONS, HIDDEN], 40)], { to: 3 });
  const weight = g.op('DequantizeLinear', [packed, g.scalar(0.01)]);
  return g.op('MatMul', [g.op('Relu', [linear(g, x, HIDDEN, NEURONS)]), weight]);
};

/** An operator without a rule between the heads and the output. */
const unsupportedAttention: Part = (site, x) => {
  const { g } = site;
  const sorted = g.op('CumSum', [selfAttention()(site, x), g.intScalar(2)]);
  return linear(g, sorted, HIDDEN, HIDDEN);
};

interface Expected {
  readonly kind: Unrecognised['kind'];
  readonly opType: string;
  readonly reason: RegExp;
  /** Module that is refused when it is named. */
  readonly refusedKind: 'ffn' | 'attention' | 'experts';
  /** Module that can be pruned. */
  readonly other: 'ffn' | 'attention';
}

const PARTS: readonly (readonly [string, DecoderShape, Expected])[] = [
  [
    'a mixture of experts',
    { ffn: experts },
    { kind: 'experts', opType: 'TopK', reason: /routes tokens to experts/, refusedKind: 'experts', other: 'attention' },
  ],
  [
    'a convolution in place of attention',
    { attention: shortConvolution },
    {
      kind: 'mixer',
      opType: 'com.microsoft.CausalConvWithState',
      reason: /it mixes tokens and is not attention/,
      refusedKind: 'attention',
      other: 'ffn',
    },
  ],
  [
    'an 8-bit linear layer',
    { ffn: quantised },
    { kind: 'ffn', opType: 'MatMul', reason: /quantised weights/, refusedKind: 'ffn', other: 'attention' },
  ],
  [
    'an unknown attention',
    { attention: unsupportedAttention },
    {
      kind: 'attention',
      opType: 'CumSum',
      reason: /channels cannot be followed through CumSum: each sum, or triangle, depends/,
      refusedKind: 'attention',
      other: 'ffn',
    },
  ],
];

describe.each(PARTS)('%s', (_, shape, { kind, opType, reason, refusedKind, other }) => {
  it('is described with node and reason, refused by name, and not pruned by default', async () => {
    const loaded = await loadTinyLlama(buildDecoder(shape));
    const { unrecognised, blocks } = describeModel('small', loaded.model, loaded.analysed);
    expect(unrecognised).toHaveLength(2);
    for (const [block, refused] of unrecognised.entries()) {
      expect(refused).toMatchObject({ block, kind, opType, reason: expect.stringMatching(reason) });
      expect(refused.node).toContain(opType);
      expect(refused.nearest).not.toBe('');
    }
    expect(blocks.map(({ modules }) => modules.map((module) => module.kind))).toEqual([[other], [other]]);
    const windows = someWindows(2, 8).map((window) => window.map((token) => token % VOCABULARY));
    const prune = (modules: PruneOptions['modules']) =>
      pruneLoaded(loaded, { sparsity: 0.3, allocation: 'uniform', modules: modules! }, { windows });
    // `all` includes no mixers other than attention.
    for (const named of kind === 'mixer' ? [refusedKind] : ([refusedKind, 'all'] as const)) {
      const pruning = prune(named);
      await expect(pruning).rejects.toThrow(UnsupportedModelError);
      await expect(pruning).rejects.toThrow(opType);
    }
    const [alone, rest] = [await prune(other), await prune(undefined)];
    expect(rest.modules).toHaveLength(2);
    expect(rest.modules.map(({ keep }) => keep)).toEqual(alone.modules.map(({ keep }) => keep));
    // A random model may have a dead neuron.
    const ofModules = ({ remarks }: { readonly remarks: readonly string[] }) =>
      remarks.filter((remark) => !remark.includes('on all calibration tokens'));
    expect(ofModules(alone)).toEqual([]);
    const inShots = await pruneLoaded(loaded, { sparsity: 0.3, method: 'flap', shots: 2 }, { windows });
    expect(ofModules(inShots)).toEqual(ofModules(rest));
    expect(ofModules(rest)).toEqual([
      expect.stringMatching(/^sparsity counts what can be pruned, .* alone \(.* stays?\)/),
      expect.stringMatching(`^blocks 0-1 ${kind}: stays as it is.*${reason.source}`),
    ]);
  });
});

it('keeps all heads if one block cannot lose any, unless perBlockKvHeads is set', async () => {
  const attention: Part = (site, x) => (site.block === 0 ? unsupportedAttention : selfAttention())(site, x);
  const loaded = await loadTinyLlama(buildDecoder({ attention }));
  const windows = someWindows(2, 8).map((window) => window.map((token) => token % VOCABULARY));
  const prune = (perBlockKvHeads: boolean) =>
    pruneLoaded(loaded, { sparsity: 0.3, method: 'flap', perBlockKvHeads }, { windows });
  const [even, uneven] = [await prune(false), await prune(true)];
  expect(even.modules.map(({ module }) => module.kind)).toEqual(['ffn', 'ffn']);
  expect(even.remarks).toContainEqual(expect.stringMatching(/^all attention stays/));
  expect(uneven.modules.map(({ module }) => module.kind).sort()).toEqual(['attention', 'ffn', 'ffn']);
});
