import { makeFloatInitializer, makeInt64Initializer, makeNode } from '../graph/build.js';
import type { Batch } from '../runtime/block-runner.js';
import type { Tensor } from '../runtime/engine.js';
import type { StageMeter } from './stage-meter.js';

/** Whose change is measured. */
export interface ChangeRequest {
  /** Tells the meter's values from those of other meters on the same stage. */
  readonly index: number;
  /** Value that holds the block's output, `channelCount` channels on its last axis. */
  readonly output: string;
  readonly channelCount: number;
  /** The block's input, which may be flattened where the output is not: one may hold `[B, S, C]` and the other `[B S, C]`. */
  before(batch: Batch): Promise<Tensor>;
  /** Element type of the input. */
  readonly type: Tensor['type'];
}

export interface ChangeMeter extends StageMeter {
  /**
   * Sum of 1 - cos over the rows of all batches, their number, and how many are zero before or after the block. A token has a row in
   * each residual stream, of which most models have one.
   */
  finish(): { readonly sum: number; readonly rowCount: number; readonly zeroCount: number };
}

/**
 * How much a block changes its input: `FC = 1 - mean over tokens of cos(X_l, X_{l+1})`; this hands out the sum.
 * @see FANG (arXiv 2512.23014), Eq. 8
 */
export function createChangeMeter({ index, output, channelCount, before, type }: ChangeRequest): ChangeMeter {
  let [sum, rowCount, zeroCount] = [0, 0, 0];
  const name = (what: string) => `change/${index}/${what}`;
  const node = (op: string, inputs: string[], result: string, attributes = {}) =>
    makeNode({ op, inputs: inputs.map(name), outputs: [name(result)], attributes });
  const rows = (value: string, result: string) => [
    makeNode({ op: 'Cast', inputs: [value], outputs: [name(`${result}_float`)], attributes: { to: 1 } }),
    node('Reshape', [`${result}_float`, 'shape'], result),
  ];
  // A product with ones adds up the channels: the form of ReduceSum depends on the opset.
  const dot = (one: string, other: string, result: string) => [
    node('Mul', [one, other], `${result}_products`),
    node('MatMul', [`${result}_products`, 'ones'], result),
  ];
  return {
    reads: [output],
    extension: {
      nodes: [
        ...rows(name('before'), 'a'),
        ...rows(output, 'b'),
        ...dot('a', 'b', 'ab'),
        ...dot('a', 'a', 'aa'),
        ...dot('b', 'b', 'bb'),
        node('Mul', ['aa', 'bb'], 'square'),
        node('Sqrt', ['square'], 'norms'),
        node('Div', ['ab', 'norms'], 'cosine'),
      ],
      initializers: [
        makeInt64Initializer(name('shape'), [-1, channelCount]),
        makeFloatInitializer(name('ones'), [channelCount, 1], new Float32Array(channelCount).fill(1)),
      ],
      inputs: [{ name: name('before'), type }],
      outputs: [name('cosine'), name('norms')],
    },
    feeds: async (batch) => ({ [name('before')]: await before(batch) }),
    add(_batch, values) {
      const norms = values[name('norms')]!.data as Float32Array;
      rowCount += norms.length;
      // A hidden state of zeros (an embedding that was never learnt) has no direction that could change.
      (values[name('cosine')]!.data as Float32Array).forEach((cosine, at) => {
        if (norms[at] === 0) zeroCount += 1;
        else sum += 1 - cosine;
      });
    },
    finish: () => ({ sum, rowCount, zeroCount }),
  };
}
