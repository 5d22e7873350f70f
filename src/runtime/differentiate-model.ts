import { create } from '@bufbuild/protobuf';
import { GraphProtoSchema, ModelProtoSchema, OperatorSetIdProtoSchema } from 'onnx-buf';
import { OptionError } from '../errors.js';
import { makeValueInfo } from '../onnx/build.js';
import { FLOAT32, INT64 } from '../onnx/data-types.js';
import { encodeModel } from '../onnx/encode-model.js';
import type { PrefillSize } from '../onnx/model-inputs.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { opsetOf } from '../onnx/opset-of.js';
import { appendCrossEntropy } from '../operators/cross-entropy.js';
import { buildGradientGraph } from '../operators/gradient-graph.js';
import { type AnalysedModel, factsForSize } from './analyse-model.js';
import { readInitializers } from './compile-model.js';
import { lowerForRun } from './lower-for-run.js';

export interface DifferentiationRequest extends PrefillSize {
  readonly model: OnnxModel;
  readonly analysed: AnalysedModel;
  /** Values or weights whose gradients are wanted, by name. */
  readonly wanted: readonly string[];
}

/** A model that also computes its loss, and gradients of the loss. */
export interface DifferentiatedModel {
  /** An ONNX file. Inputs: the model's, and `tokens`. Outputs: the loss, the wanted values except weights, the gradients. */
  readonly bytes: Uint8Array;
  /** Input with the target token ids, int64 `[batchSize, sequenceLength]`: the same ids as the model's token input. */
  readonly tokens: string;
  /** Output with the mean next-token cross-entropy over all predictions, in nats. */
  readonly loss: string;
  /** Name of the output with each wanted gradient: float32, with the dims of the value. */
  readonly gradients: ReadonlyMap<string, string>;
}

/** @see DifferentiatedModel.tokens */
const TOKENS = 'loss_tokens';

/**
 * Adds the gradient of the next-token cross-entropy to an entire model, for one batch size and window length. For small models
 * and experiments; `backpropagate` does the same block by block.
 *
 * @throws OptionError for a wanted value that does not exist; UnsupportedModelError for an operator without a gradient rule.
 */
export async function differentiateModel(request: DifferentiationRequest): Promise<DifferentiatedModel> {
  const { model, analysed, wanted, batchSize, sequenceLength } = request;
  const { proto, weights } = model;
  const graph = { ...proto.graph!, node: lowerForRun(proto.graph!) };
  const shapes = factsForSize(analysed, { batchSize, sequenceLength });
  const unknown = wanted.find((name) => !shapes.has(name) && !weights.has(name));
  if (unknown !== undefined)
    throw new OptionError(`the model has no value "${unknown}"; see its nodes' inputs and outputs`);
  const { logits } = analysed.detected.layout;
  const opset = opsetOf(proto);
  const initializers = await readInitializers(model);
  const entropy = appendCrossEntropy({ logits: { value: logits, fact: shapes.get(logits)! }, tokens: TOKENS, opset });
  const backward = buildGradientGraph({
    graph: { nodes: graph.node, initializers: new Map(initializers.map((tensor) => [tensor.name, tensor])), opset },
    shapes,
    outputs: [{ value: logits, cotangent: entropy.cotangent }],
    wanted,
  });
  const added = backward.domains.filter((domain) => !proto.opsetImport.some((known) => known.domain === domain));
  const values = wanted.filter((name) => !weights.has(name));
  const differentiated = create(ModelProtoSchema, {
    irVersion: proto.irVersion,
    functions: proto.functions,
    opsetImport: [
      ...proto.opsetImport,
      ...added.map((domain) => create(OperatorSetIdProtoSchema, { domain, version: 1n })),
    ],
    graph: create(GraphProtoSchema, {
      name: 'gradient',
      node: [...graph.node, ...entropy.nodes, ...backward.nodes],
      initializer: [...initializers, ...entropy.initializers, ...backward.initializers],
      input: [
        ...graph.input.filter(({ name }) => !weights.has(name)),
        makeValueInfo(TOKENS, INT64, [batchSize, sequenceLength]),
      ],
      output: [
        makeValueInfo(entropy.loss, FLOAT32),
        ...values.map((name) => makeValueInfo(name, shapes.get(name)!.dataType)),
        ...[...backward.gradients.values()].map((name) => makeValueInfo(name, FLOAT32)),
      ],
    }),
  });
  return {
    bytes: encodeModel(differentiated),
    tokens: TOKENS,
    loss: entropy.loss,
    gradients: backward.gradients,
  };
}
