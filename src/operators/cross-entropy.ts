import type { NodeProto, TensorProto } from 'onnx-buf';
import { OptionError } from '../errors.js';
import { FLOAT32, INT64 } from '../onnx/data-types.js';
import { isFloatType } from '../onnx/float-encoding.js';
import { createNodeEmitter } from '../onnx/node-emitter.js';
import { createTensorOps, type TensorOps } from '../onnx/tensor-ops.js';
import { gradientType, type Value } from '../onnx/value.js';
import type { ValueFact } from '../onnx/value-facts.js';

/** Start of all new names. */
const PREFIX = 'loss/';

/** Inputs of the loss, and its options. */
export interface CrossEntropyOptions {
  /** Value with the logits and its facts, dims `[B, S, V]`, any float type. */
  readonly logits: { readonly value: string; readonly fact: ValueFact };
  /** Int64 value `[B, S]` with the tokens of the windows themselves; position s predicts token s + 1. */
  readonly tokens: string;
  /** Version of ONNX's own operators in the graph, at least 11. */
  readonly opset: number;
  /**
   * Factor of the summed loss of all B (S - 1) predictions. Default: their mean. Pass 1 / (S - 1) for the sum over the batch of
   * the mean over each window, 1 for the plain sum.
   */
  readonly scale?: number;
  /** Softens the logits, and draws the targets from them instead of reading the windows' tokens. */
  readonly softened?: Softening | undefined;
}

/**
 * A model's own softened prediction, q = softmax(logits / temperature), as the target. With g the gradient of -ln q at
 * a token drawn from q, the mean of g g' is the Fisher information: the curvature of KL(q || q changed), and so of how
 * far a change moves the predictions.
 */
export interface Softening {
  /** Above 0. */
  readonly temperature: number;
  /** Runs of one session draw from one stream. Ignored where the caller draws, see `CrossEntropy.draws`. */
  readonly seed: number;
  /** Number of earlier windows, for which other shards draw; the caller draws then. Absent: the graph may draw. */
  readonly firstWindow?: number | undefined;
}

/** ONNX Runtime has no kernel for `Multinomial` from this version of ONNX's operators on. */
const MULTINOMIAL_END = 22;

/** Nodes that compute the loss and its gradient; both are of the logits' gradient type (float32). */
export interface CrossEntropy {
  readonly nodes: readonly NodeProto[];
  readonly initializers: readonly TensorProto[];
  /** Scalar: scale x sum of -ln p(next token), summed in the graph. */
  readonly loss: string;
  /** `[B, S, V]`: d loss / d logits, for `GradientProblem.outputs`. Zero at each window's last position. */
  readonly cotangent: string;
  /**
   * Graph input to declare and feed: `[B, S, 1]` float32, drawn uniformly from [0, 1). The number of each position picks its
   * target. Absent if nothing is drawn, or if the graph draws (below opset 22).
   */
  readonly draws?: string | undefined;
}

/**
 * Next-token cross-entropy of a language model, appended to its graph.
 *
 * With p = softmax(logits): loss = scale sum (ln sum exp(logits) - logit of the target), d logits = scale (p - onehot).
 * Softened, both are of logits / temperature, and the gradient is divided by it once more.
 * No one-hot is built, and only softened logits are a copy: two tensors of B x S x V floats exist in addition to the logits,
 * three if they are softened.
 * @throws OptionError when the logits are not `[B, S, V]` with S at least 2, or the temperature is not above 0.
 * @see K-FAC (Martens & Grosse, ICML 2015), section 2, for targets drawn from the model; Hinton et al. (arXiv 1503.02531) for softened ones
 */
export function appendCrossEntropy(options: CrossEntropyOptions): CrossEntropy {
  const { logits, tokens, opset, softened } = options;
  const { dims, dataType } = logits.fact;
  const [batch = 0, length = 0] = dims;
  if (dims.length !== 3 || length < 2 || !isFloatType(dataType)) {
    throw new OptionError(
      `Logits "${logits.value}" have dims [${dims}] and data type ${dataType}; a next-token loss needs floats [batch, length >= 2, vocabulary].`,
    );
  }
  const { temperature = 1 } = softened ?? {};
  if (!(temperature > 0))
    throw new OptionError(`The temperature of a softened loss is ${temperature}; expected above 0.`);
  const emitter = createNodeEmitter(PREFIX);
  const o = createTensorOps(emitter, opset);
  const raw = o.cast({ name: logits.value, dims, dataType }, gradientType(dataType));
  const scaled = (value: Value) =>
    temperature === 1 ? value : o.mul(value, emitter.constant(raw.dataType, [], [1 / temperature]));
  const x = scaled(raw);
  const weights = o.emitter.constant(x.dataType, [1, length, 1], positionWeights(batch, length, options.scale));
  const probabilities = o.softmax(x);
  const isFed = softened?.firstWindow !== undefined || opset >= MULTINOMIAL_END;
  const draws = softened !== undefined && isFed ? `${PREFIX}draws` : undefined;
  const targets =
    softened === undefined
      ? nextTokens(o, { name: tokens, dims: [batch, length], dataType: INT64 })
      : draws === undefined
        ? drawTokens(o, x, softened.seed)
        : pickTokens(o, probabilities, { name: draws, dims: [batch, length, 1], dataType: FLOAT32 });

  // Logit of the most likely token minus its ln p; ReduceLogSumExp is several times slower and less accurate.
  const normaliser = o.sub(o.max(x, [2], true), o.log(o.max(probabilities, [2], true)));
  const loss = o.total(o.mul(o.sub(normaliser, o.gatherElements(x, targets, 2)), weights));
  const weighted = o.mul(probabilities, weights);
  const updates = o.sub(o.gatherElements(weighted, targets, 2), weights);
  const cotangent = scaled(o.scatterElements(weighted, targets, { updates, axis: 2 }));
  const { nodes, initializers } = emitter.finish([loss.name, cotangent.name]);
  return { nodes, initializers, loss: loss.name, cotangent: cotangent.name, ...(draws !== undefined && { draws }) };
}

/** Token s + 1 at position s, `[B, S, 1]`; the last position, which has weight 0, gets the window's first token. */
function nextTokens(o: TensorOps, tokens: Value): Value {
  const [batch = 1, length = 1] = tokens.dims;
  const next = o.concat([o.slice(tokens, 1, { start: 1, end: length }), o.slice(tokens, 1, { start: 0, end: 1 })], 1);
  return o.reshape(next, [batch, length, 1]);
}

/** One token per position, `[B, S, 1]`, drawn from the softmax of its logits. */
function drawTokens(o: TensorOps, logits: Value, seed: number): Value {
  const [batch = 1, length = 1, size = 1] = logits.dims;
  const rows = o.cast(o.reshape(logits, [batch * length, size]), FLOAT32);
  const drawn = o.emitter.node('Multinomial', [rows], {
    dims: [batch * length, 1],
    dataType: INT64,
    attributes: { dtype: INT64, sample_size: 1, seed: { float: seed } },
  });
  // For NaN logits the draw is one past the end; the gradient is NaN anyway.
  return o.reshape(o.where(o.equal(drawn, size), 0, drawn), [batch, length, 1]);
}

/** Inverse transform sampling: the token whose interval of cumulative probabilities contains each position's number, `[B, S, 1]`. */
function pickTokens(o: TensorOps, probabilities: Value, draws: Value): Value {
  const size = probabilities.dims[2] ?? 1;
  const isBelow = o.not(o.greater(o.cumulate(probabilities, 2), o.cast(draws, probabilities.dataType)));
  const picked = o.cast(o.sum(o.cast(isBelow, FLOAT32), [2], true), INT64);
  // Rounding may leave the last sum below a number close to 1.
  return o.where(o.equal(picked, size), size - 1, picked);
}

function positionWeights(batch: number, length: number, scale = 1 / (batch * (length - 1))): number[] {
  return Array.from({ length }, (_, at) => (at < length - 1 ? scale : 0));
}
