import type { NodeProto, TensorProto } from 'onnx-buf';
import { OptionError } from '../errors.js';
import { FLOAT32 } from '../onnx/data-types.js';
import { isFloatType } from '../onnx/float-encoding.js';
import { createNodeEmitter } from '../onnx/node-emitter.js';
import { createTensorOps } from '../onnx/tensor-ops.js';
import { gradientType } from '../onnx/value.js';
import type { ValueFact } from '../onnx/value-facts.js';

/** Start of all new names. */
const PREFIX = 'divergence/';

/** Inputs of the divergence, and its options. */
export interface DivergenceOptions {
  /** Value with the logits and its facts, dims `[B, S, V]`, any float type. */
  readonly logits: { readonly value: string; readonly fact: ValueFact };
  /** Data type of the target logits, any float. Default: that of the logits. */
  readonly targetType?: number;
  /** Version of ONNX's own operators in the graph, at least 11. */
  readonly opset: number;
}

/** Nodes that compute the divergence and its gradient; both are float32 (float64 for float64 logits). */
export interface Divergence {
  readonly nodes: readonly NodeProto[];
  readonly initializers: readonly TensorProto[];
  /** Graph input to declare and feed: the target logits, with the logits' dims. */
  readonly target: string;
  readonly targetType: number;
  /** Graph input to declare and feed: weight of each position, float32 `[B, S, 1]`. */
  readonly weights: string;
  /** Scalar: sum over positions of weight x KL, in nats. */
  readonly loss: string;
  /** `[B, S, V]`: d loss / d logits, for `GradientProblem.outputs`. */
  readonly cotangent: string;
}

/**
 * The divergence KL(p || q) of a language model's predictions q = softmax(logits) from given ones p = softmax(target), appended to
 * its graph.
 *
 * KL = sum p (target - logits) - ln sum exp(target) + ln sum exp(logits), d KL / d logits = q - p.
 * Five tensors of B x S x V floats exist in addition to the logits: use few positions at a time.
 * @throws OptionError when the logits are not `[B, S, V]`.
 * @see Hinton et al. (arXiv 1503.02531), section 2, at temperature 1
 */
export function appendDivergence(options: DivergenceOptions): Divergence {
  const { logits, opset } = options;
  const { dims, dataType } = logits.fact;
  const { targetType = dataType } = options;
  if (dims.length !== 3 || !isFloatType(dataType)) {
    throw new OptionError(
      `Logits "${logits.value}" have dims [${dims}] and data type ${dataType}; a divergence needs floats [batch, length, vocabulary].`,
    );
  }
  const emitter = createNodeEmitter(PREFIX);
  const o = createTensorOps(emitter, opset);
  const names = { target: `${PREFIX}target`, weights: `${PREFIX}weights` };
  const precision = gradientType(dataType);
  const x = o.cast({ name: logits.value, dims, dataType }, precision);
  const z = o.cast({ name: names.target, dims, dataType: targetType }, precision);
  const [q, p] = [o.softmax(x), o.softmax(z)];
  const weights = o.cast({ name: names.weights, dims: dims.with(2, 1), dataType: FLOAT32 }, x.dataType);
  // Logit of the most likely token minus its ln p; ReduceLogSumExp is several times slower and less accurate.
  const normaliser = (value: typeof x, softmax: typeof x) =>
    o.sub(o.max(value, [2], true), o.log(o.max(softmax, [2], true)));
  const distance = o.sum(o.mul(p, o.sub(z, x)), [2], true);
  const divergence = o.add(o.sub(distance, normaliser(z, p)), normaliser(x, q));
  const loss = o.total(o.mul(divergence, weights));
  const cotangent = o.mul(o.sub(q, p), weights);
  const { nodes, initializers } = emitter.finish([loss.name, cotangent.name]);
  return { nodes, initializers, ...names, targetType, loss: loss.name, cotangent: cotangent.name };
}
