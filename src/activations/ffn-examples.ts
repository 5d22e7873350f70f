import type { PrunableModule } from '../architecture/layout.js';
import { makeNode } from '../onnx/build.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import type { Batch } from '../runtime/block-runner.js';
import type { Tensor } from '../runtime/engine.js';
import { releaseTensor, retainTensor } from '../runtime/tensor-memory.js';
import type { StageMeter } from './stage-meter.js';

/** An FFN's inputs and outputs for the tokens of one batch. */
export interface FfnExample {
  /** Value that `sourceOf` names, channels on its last axis. */
  readonly source: Tensor;
  /** Output of the last linear layer before anything was removed, `[.., out]`. */
  readonly target: Tensor;
}

/** Value that starts an FFN: its input before any flattening, since later nodes read the original dims. */
export function sourceOf({ proto }: OnnxModel, { input }: PrunableModule): string {
  const producer = proto.graph?.node.find(({ output }) => output.includes(input));
  return producer?.opType === 'Reshape' ? producer.input[0]! : input;
}

/** A meter that keeps examples of some batches in memory. */
export interface ExampleMeter extends StageMeter {
  readonly examples: readonly FfnExample[];
  /** Frees them. */
  dispose(): void;
}

/** Keeps an FFN's inputs and outputs for the wanted batches. */
export function createExampleMeter(
  { index, output }: PrunableModule,
  { source, isWanted }: { readonly source: string; isWanted(batch: Batch): boolean },
): ExampleMeter {
  const examples: FfnExample[] = [];
  const [sourceCopy, target] = [`examples/${index}/source`, `examples/${index}/target`];
  // The stage may return these values too, and output names are unique.
  const copy = (value: string, to: string) => makeNode({ op: 'Identity', inputs: [value], outputs: [to] });
  return {
    reads: [source, output.result],
    extension: {
      nodes: [copy(source, sourceCopy), copy(output.result, target)],
      initializers: [],
      inputs: [],
      outputs: [sourceCopy, target],
    },
    feeds: () => ({}),
    add(batch, values) {
      if (!isWanted(batch)) return;
      const example = { source: values[sourceCopy]!, target: values[target]! };
      Object.values(example).forEach(retainTensor);
      examples.push(example);
    },
    examples,
    dispose: () => {
      for (const example of examples.splice(0)) [example.source, example.target].forEach(releaseTensor);
    },
  };
}
