import { OPEN } from '../onnx/value-facts.js';
import type { Batch } from '../runtime/block-runner.js';
import type { Tensor } from '../runtime/engine.js';
import { extendStage } from './extend-stage.js';
import type { StageMeter } from './stage-meter.js';

/** A block whose change is measured. */
export interface ChangeRequest {
  /** Index of the meter, unique on its stage: prefixes the names of its values. */
  readonly index: number;
  /** The block's output, `channelCount` channels on its last axis. */
  readonly output: string;
  readonly channelCount: number;
  /** The block's input; input and output may each be `[B, S, C]` or `[B S, C]`. */
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
 * How much a block changes its input: `FC = 1 - mean over tokens of cos(X_l, X_{l+1})`; this returns the sum.
 * @see FANG (arXiv 2512.23014), Eq. 8
 */
export function createChangeMeter({ index, output, channelCount, before, type }: ChangeRequest): ChangeMeter {
  let [sum, rowCount, zeroCount] = [0, 0, 0];
  const { names, ...extension } = extendStage(`change/${index}`, (o) => {
    const before = o.input('before', [OPEN], type);
    const a = o.rows(o.float(before), channelCount);
    const b = o.rows(o.float(o.value(output)), channelCount);
    const ab = o.sumChannels(o.mul(a, b));
    const norms = o.sqrt(o.mul(o.sumChannels(o.mul(a, a)), o.sumChannels(o.mul(b, b))));
    return { before, cosine: o.div(ab, norms), norms };
  });
  return {
    reads: [output],
    extension: { ...extension, outputs: [names.cosine, names.norms] },
    feeds: async (batch) => ({ [names.before]: await before(batch) }),
    add(_batch, values) {
      const norms = values[names.norms]!.data as Float32Array;
      rowCount += norms.length;
      // A hidden state of zeros (an untrained embedding) has no direction.
      (values[names.cosine]!.data as Float32Array).forEach((cosine, at) => {
        if (norms[at] === 0) zeroCount += 1;
        else sum += 1 - cosine;
      });
    },
    finish: () => ({ sum, rowCount, zeroCount }),
  };
}
