import { UnsupportedModelError } from '../../src/errors.js';
import { ModelFormatError } from '../../src/index.js';
import { makeInitializer } from '../../src/onnx/build.js';
import { createGraphBuilder, type GraphBuilder } from '../support/graph-builder.js';
import { HIDDEN, VOCABULARY } from '../support/small-decoder.js';
import { loadTinyLlama } from '../support/tiny-llama.js';

/** Loads a model that applies `write` to token embeddings, up to its first two runs. */
function load(write: (g: GraphBuilder, x: string) => string) {
  const g = createGraphBuilder();
  g.input('input_ids', 7, ['batch', 'sequence']);
  const x = g.op('Gather', [g.weight([VOCABULARY, HIDDEN], 1), 'input_ids']);
  g.named('logits', 'MatMul', [write(g, x), g.weight([HIDDEN, VOCABULARY])]);
  g.output('logits', 1, ['batch', 'sequence', VOCABULARY]);
  return loadTinyLlama(g.bytes());
}

const groupQuery = (g: GraphBuilder, x: string, attributes: object, tables: readonly string[] = []) => {
  const cache = ['key', 'value'].map((name) => g.input(`past_key_values.0.${name}`, 1, ['batch', 2, 'past', 8]));
  const lengths = ['int', 'total'].map(() => g.op('Cast', [g.ints(1)], { to: 6 }));
  const inputs = [x, x, x, ...cache, ...lengths, ...tables];
  return g.op('GroupQueryAttention', inputs, { num_heads: 2, kv_num_heads: 2, ...attributes }, 'com.microsoft');
};

const gatherCodes = (g: GraphBuilder, x: string, attributes: object) => {
  const table = g.op('Constant', [], { value: { tensor: makeInitializer('', 2, [32, 8], new Uint8Array(256)) } });
  const all = { gather_axis: 0, quantize_axis: 1, block_size: 16, bits: 4, ...attributes };
  const rows = g.op('GatherBlockQuantized', [table, 'input_ids', g.weight([32, 1])], all, 'com.microsoft');
  return g.op('Add', [x, rows]);
};

/** What ended the process in ONNX Runtime 1.30, or took all memory. */
const CRASHING: readonly (readonly [string, (g: GraphBuilder, x: string) => string, RegExp])[] = [
  ['no heads', (g, x) => groupQuery(g, x, { num_heads: 0 }), /has num_heads 0, expected 1 to/],
  ['no KV heads', (g, x) => groupQuery(g, x, { kv_num_heads: 0 }), /has kv_num_heads 0/],
  ['a negative number of heads', (g, x) => groupQuery(g, x, { num_heads: -3 }), /has num_heads -3/],
  [
    'a rotary table of one dim',
    (g, x) => groupQuery(g, x, { do_rotary: 1 }, [g.weight([64]), g.weight([64])]),
    /reads "\S+" of dims \[64\], expected 2 dims/,
  ],
  [
    'a convolution along three dims',
    (g, x) => {
      const past = g.input('past_conv.0', 1, ['batch', HIDDEN, 3]);
      const inputs = [g.op('Transpose', [x], { perm: [0, 2, 1] }), g.weight([HIDDEN, 1, 4]), '', past];
      const mixed = g.op('CausalConvWithState', inputs, { ndim: 3, activation: 'none' }, 'com.microsoft');
      return g.op('Transpose', [mixed], { perm: [0, 2, 1] });
    },
    /has ndim 3, expected 1 to 2/,
  ],
  ['codes of no bits', (g, x) => gatherCodes(g, x, { bits: 0 }), /has bits 0, expected 1 to 8/],
  ['blocks of no weights', (g, x) => gatherCodes(g, x, { block_size: 0 }), /has block_size 0, expected 1 to 65536/],
  [
    'parts larger than the weight',
    (g, x) => {
      const inputs = [x, g.weight([HIDDEN, 3 * HIDDEN]), g.weight([3 * HIDDEN])];
      const sizes = [2 ** 16, 2 ** 16, 2 ** 16];
      return g.op('Attention', inputs, { num_heads: 2, qkv_hidden_sizes: sizes }, 'com.microsoft');
    },
    /divides "\S+" of dims \[\d+,\d+\] by qkv_hidden_sizes \[65536,65536,65536\]/,
  ],
  [
    'a norm of embeddings by a single number',
    (g) => {
      const [words, places] = [g.weight([VOCABULARY, HIDDEN]), g.weight([64, HIDDEN])];
      const inputs = ['input_ids', '', words, places, '', g.weight([]), g.weight([HIDDEN])];
      return g.ops('EmbedLayerNormalization', inputs, 2, {}, 'com.microsoft')[0]!;
    },
    /EmbedLayerNormalization.* reads "\S+" of dims \[\], expected 1 dims/,
  ],
  [
    'a convolution with vast padding',
    (g, x) => {
      const channels = g.op('Transpose', [x], { perm: [0, 2, 1] });
      const mixed = g.op('Conv', [channels, g.weight([HIDDEN, HIDDEN, 3])], { pads: [2 ** 24, 0] });
      return g.op('Add', [x, g.op('ReduceMax', [mixed])]);
    },
    /has pads 16777216/,
  ],
  [
    'chance with a spread that is no number',
    (g, x) => g.op('Add', [x, g.op('RandomNormalLike', [x], { scale: { float: Number.NaN } })]),
    /RandomNormalLike.* is an operator for images, audio or random numbers/,
  ],
  [
    'batch dims out of range',
    (g, x) => g.op('Add', [x, g.op('GatherND', [x, g.ints(0)], { batch_dims: -(2 ** 31) })]),
    /GatherND.*has batch_dims -2147483648/,
  ],
  [
    'a constant of a terabyte',
    (g, x) => g.op('Add', [x, g.op('ConstantOfShape', [g.ints(2 ** 38)])]),
    /computes 2199023255552 bytes/,
  ],
  [
    'a range without end',
    (g, x) =>
      g.op('Add', [
        x,
        g.op('Cast', [g.op('Range', [g.intScalar(0), g.intScalar(2 ** 40), g.intScalar(1)])], { to: 1 }),
      ]),
    /Range.*computes 8796093022208 bytes/,
  ],
  [
    'a range from far below a length',
    (g, x) => {
      const length = g.op('Gather', [g.op('Shape', ['input_ids']), g.intScalar(1)]);
      const range = g.op('Range', [g.intScalar(-(2 ** 31)), length, g.intScalar(1)]);
      return g.op('Add', [x, g.op('Cast', [g.op('ReduceMax', [range])], { to: 1 })]);
    },
    /Range.*computes 17179869184 bytes/,
  ],
  [
    'sizes that a factor makes vast',
    (g, x) => {
      const size = g.op('Mul', [g.op('Shape', [x]), g.ints(1, 2 ** 24, 1)]);
      return g.op('Add', [x, g.op('ReduceMax', [g.op('Expand', [x, size])])]);
    },
    /Expand.* has a size computed from "\S+", which contains 16777216/,
  ],
  [
    'a shape of two billion dims',
    (g, x) => {
      const shape = g.op('Reshape', [g.op('Shape', [x]), g.ints(2 ** 31)]);
      return g.op('Expand', [x, g.op('Where', [g.op('Equal', [shape, g.ints(-1)]), g.ints(1), shape])]);
    },
    /Reshape.*computes 17179869184 bytes/,
  ],
  [
    'a mask of 134 MB',
    (g, x) => g.op('Add', [x, g.op('Cast', [g.op('Tile', [g.ints(1), g.ints(2 ** 24)])], { to: 1 })]),
    /Tile.*computes 134217728 bytes/,
  ],
  [
    'masks that are too large together',
    (g, x) =>
      [1, 2, 3].reduce(
        (sum) => g.op('Add', [sum, g.op('Cast', [g.op('Expand', [g.ints(1), g.ints(2 ** 21)])], { to: 1 })]),
        x,
      ),
    /Expand.*computes 16777216 bytes from constants \(50331648 together with/,
  ],
];

it.each(CRASHING)('refuses %s before it creates a session', async (_, write, message) => {
  const loading = load(write);
  await expect(loading).rejects.toThrow(UnsupportedModelError);
  await expect(loading).rejects.toThrow(message);
});

it.each(['valueOf', 'constructor', '__proto__', 'toString'])('refuses an operator called %s', async (name) => {
  const loading = load((g, x) => g.op(name, [x]));
  await expect(loading).rejects.toThrow(ModelFormatError);
  await expect(loading).rejects.toThrow(`has an operator called "${name}"`);
});

it('refuses a node that depends on its own output', async () => {
  const loading = load((g, x) => {
    g.named('first', 'Add', [x, 'second']);
    return g.named('second', 'Add', [x, 'first']);
  });
  await expect(loading).rejects.toThrow(ModelFormatError);
  await expect(loading).rejects.toThrow('depends on its own output');
});

it('refuses a value that two nodes output', async () => {
  const loading = load((g, x) => {
    g.named('twice', 'Relu', [x]);
    return g.named('twice', 'Neg', [x]);
  });
  await expect(loading).rejects.toThrow('computes the value "twice" twice');
});

it('refuses an input of negative or too large a size', async () => {
  for (const size of [-4, 2 ** 40]) {
    const loading = load((g, x) => {
      g.input('past_key_values.0.key', 1, ['batch', 2, 'past', size]);
      return x;
    });
    await expect(loading).rejects.toThrow(UnsupportedModelError);
    await expect(loading).rejects.toThrow(/"past_key_values.0.key" is declared with dims/);
  }
});
