import type { GraphBuilder } from './graph-builder.js';
import {
  buildDecoder,
  HEAD_SIZE,
  HEADS,
  HIDDEN,
  layerNorm,
  linear,
  type Part,
  repeatHeads,
  selfAttention,
  separate,
  toHeads,
  VOCABULARY,
} from './small-decoder.js';

const [BLOCKS, PER_LAYER] = [4, 6];

export interface SharingShape {
  /** Blocks that read the keys and values of the second one. Default 2. */
  readonly readers?: number;
  /** Default 2. */
  readonly kvHeads?: number;
  /** What is read: KV heads that are copied for their query heads already, or the cache. Default `copies`. */
  readonly shares?: 'copies' | 'cache';
  /** Readers see the copies in the reverse order, so that the heads of several blocks have nothing in common. Default false. */
  readonly reversed?: boolean;
}

/**
 * A decoder as Gemma 3n and 4 have it: every block adds a projection of the token's own per-layer embedding, and the blocks after the
 * second read the keys and values of that.
 */
export function buildSharing({
  readers = 2,
  kvHeads = 2,
  shares = 'copies',
  reversed = false,
}: SharingShape = {}): Uint8Array {
  let perLayer: readonly string[] = [];
  const shared: string[] = [];
  const turn = (g: GraphBuilder, x: string) => (reversed ? g.op('Gather', [x, g.ints(3, 2, 1, 0)], { axis: 1 }) : x);
  const spread = (g: GraphBuilder, x: string) => (kvHeads === HEADS ? x : repeatHeads(kvHeads)(g, x));
  const own = selfAttention({ project: separate(kvHeads), spread });
  const making = selfAttention({
    project: separate(kvHeads),
    spread: (g, x) => {
      const heads = spread(g, x);
      shared.push(shares === 'copies' ? heads : x);
      return heads;
    },
  });
  const reading: Part = ({ g, mask }, x) => {
    const [keys = '', values = ''] = shared.map((value) => (shares === 'copies' ? turn(g, value) : spread(g, value)));
    const query = toHeads(g, linear(g, x, HIDDEN, HEADS * HEAD_SIZE), HEADS);
    const scores = g.op('MatMul', [query, g.op('Transpose', [keys], { perm: [0, 1, 3, 2] })]);
    const probabilities = g.op('Softmax', [g.op('Add', [scores, mask])], { axis: -1 });
    const mixed = g.op('Transpose', [g.op('MatMul', [probabilities, values])], { perm: [0, 2, 1, 3] });
    return linear(g, g.op('Reshape', [mixed, g.ints(0, 0, HIDDEN)]), HIDDEN, HIDDEN);
  };
  return buildDecoder({
    blockCount: BLOCKS,
    attention: (site, x) => [own, making, ...Array.from({ length: readers }, () => reading), own][site.block]!(site, x),
    before(g, x) {
      const embedded = g.op('Gather', [g.weight([VOCABULARY, BLOCKS * PER_LAYER], 0.5), 'input_ids']);
      const projected = g.op('MatMul', [x, g.weight([HIDDEN, BLOCKS * PER_LAYER], 0.5)]);
      const both = g.op('Reshape', [g.op('Add', [embedded, projected]), g.ints(0, 0, BLOCKS, PER_LAYER)]);
      perLayer = Array.from({ length: BLOCKS }, (_, at) => g.op('Gather', [both, g.intScalar(at)], { axis: 2 }));
      return x;
    },
    compose({ g, ...site }, x, { attention, ffn }) {
      const attended = g.op('Add', [x, attention({ g, ...site }, layerNorm(g, x))]);
      const fed = g.op('Add', [attended, ffn({ g, ...site }, layerNorm(g, attended))]);
      const gate = g.op('Tanh', [g.op('MatMul', [fed, g.weight([HIDDEN, PER_LAYER])])]);
      const weighted = g.op('Mul', [gate, perLayer[site.block]!]);
      return g.op('Add', [fed, g.op('MatMul', [weighted, g.weight([PER_LAYER, HIDDEN])])]);
    },
  });
}
