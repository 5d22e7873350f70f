import { indexGraph } from '../src/onnx/graph-index.js';
import type { OnnxModel } from '../src/onnx/onnx-model.js';
import type { PruneOptions } from '../src/options.js';
import { maskModel } from '../src/removal/mask-model.js';
import { storeInMemory } from '../src/removal/repair-linear.js';
import { checkPruning } from './support/check-pruned.js';
import {
  type BlockSite,
  buildDecoder,
  HEAD_SIZE,
  HEADS,
  type Heads,
  selfAttention,
  separate,
  VOCABULARY,
} from './support/small-decoder.js';
import { type Loaded, loadTinyLlama, pruneLoaded, relativeGap, runModel } from './support/tiny-llama.js';

/** Tokens up to which the first of two rotary tables is used, as in models whose context was extended. */
const FIRST_CONTEXT = 12;

/** A decoder in which an If chooses one of two rotary tables, by the number of tokens. */
function twoTables(): Uint8Array {
  let tables: readonly string[] | undefined;
  const pickTables = ({ g, columns }: BlockSite): string[] => {
    const isLong = g.op('Greater', [g.op('Size', [columns]), g.intScalar(FIRST_CONTEXT)]);
    return [0, 1].map(() => {
      const long = g.weight([3 * FIRST_CONTEXT, HEAD_SIZE / 2], 2);
      const short = g.weight([FIRST_CONTEXT, HEAD_SIZE / 2], 2);
      return g.choose(isLong, {
        // biome-ignore lint/suspicious/noThenProperty: the branch's name in ONNX
        then: () => g.op('Mul', [long, g.scalar(0.5)]),
        else: () => g.op('Identity', [short]),
      });
    });
  };
  const project = (site: BlockSite, x: string): Heads => {
    const { g, rows } = site;
    tables ??= pickTables(site);
    const first = g.op('Slice', [rows, g.ints(0), g.ints(1)]);
    const rotate = (value: string) => g.op('RotaryEmbedding', [value, first, ...tables!], {}, 'com.microsoft');
    const heads = separate(HEADS)(site, x);
    return { ...heads, query: rotate(heads.query), key: rotate(heads.key) };
  };
  return buildDecoder({ attention: selfAttention({ project }) });
}

const windowsOf = (length: number): Int32Array[] =>
  Array.from({ length: 3 }, (_, window) =>
    Int32Array.from({ length }, (_, at) => (window * 17 + at * at * 7 + at * 3) % VOCABULARY),
  );

const LENGTHS = { short: FIRST_CONTEXT - 2, long: FIRST_CONTEXT + 6 };

const METHODS: readonly PruneOptions[] = [
  { sparsity: 0.4, method: 'flap', modules: 'all' },
  { sparsity: 0.4, modules: 'all' },
  { sparsity: 0.4, method: 'o-fang', modules: 'ffn', grouping: { contextCount: 3 } },
];

describe.each(METHODS)('a decoder with a branch, pruned by %j', (options) => {
  let loaded: Loaded;
  beforeAll(async () => {
    loaded = await loadTinyLlama(twoTables());
  });

  it.each(Object.entries(LENGTHS))(
    'equals the masked original in both branches, pruned on %s windows',
    async (_, length) => {
      const outcome = await pruneLoaded(loaded, options, { windows: windowsOf(length) });
      const masked = await maskModel(loaded.model, outcome, { analysed: loaded.analysed, store: storeInMemory });
      const logitsOf = async (model: OnnxModel, tokens: number) =>
        (await runModel(model, windowsOf(tokens))).logits!.data as Float32Array;
      for (const tokens of Object.values(LENGTHS)) {
        const expected = await logitsOf(masked, tokens);
        expect(relativeGap(await logitsOf(outcome.model, tokens), expected)).toBeLessThan(1e-5);
        expect(relativeGap(await logitsOf(loaded.model, tokens), expected)).toBeGreaterThan(1e-3);
      }
      expect(outcome.modules.some(({ module, keep }) => keep.length < module.unitCount)).toBe(true);
    },
  );

  it('computes the same with the cache as without', async () => {
    expect((await checkPruning(loaded, options, VOCABULARY)).cacheGap).toBeLessThan(1e-5);
  });
});

describe('indexGraph', () => {
  it('lists values whose dims depend on a branch', async () => {
    const { model } = await loadTinyLlama(twoTables());
    const { branching, nodes } = indexGraph(model.proto.graph!);
    expect([...branching]).toEqual(nodes.filter(({ opType }) => opType === 'If').flatMap(({ output }) => output));
  });
});
