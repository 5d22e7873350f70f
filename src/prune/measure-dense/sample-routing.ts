import { metricNodes } from '../../activations/expert-probe.js';
import type { TokenContexts } from '../../activations/measure-affinity.js';
import { rankExperts } from '../../activations/mix-experts.js';
import type { PrunableModule } from '../../architecture/layout.js';
import { type BlockRunner, countTokens } from '../../runtime/block-runner.js';
import type { Tensor, Tensors } from '../../runtime/engine.js';
import { tensorFloats } from '../../runtime/tensor-floats.js';
import { releaseTensors } from '../../runtime/tensor-memory.js';

/** Inputs and outputs of a mixture for a sample of the calibration tokens. */
export interface RoutingSample {
  readonly type: 'float32' | 'float16';
  readonly tokenCount: number;
  /** `[tokens, channels]`, inputs of the experts. */
  readonly inputs: Float32Array | Uint16Array;
  /** `[tokens, experts]`; empty for unfused experts, whose routers are run separately. */
  readonly scores: Float32Array;
  /** `[tokens, channels]`, the mixture's results times the metric. */
  readonly outputs: Float32Array;
  /** Number of tokens of each expert, of all calibration tokens. */
  readonly counts: Int32Array;
  /** `[contexts, experts]` row-major: these counts by context, if contexts were given. */
  readonly countsByContext?: Int32Array | undefined;
}

/** Most tokens of a sample: memory is bounded, and each expert still has hundreds. */
const TOKENS = 8192;

export interface SampleRequest {
  readonly runner: BlockRunner;
  readonly module: PrunableModule;
  readonly metric: Float32Array | undefined;
  /** Contexts of the tokens, to count by. */
  readonly contexts?: TokenContexts | undefined;
  onBatch(): void;
}

/** Runs the current stage of a runner, and samples the inputs and outputs of its mixture. */
export async function sampleRouting(request: SampleRequest): Promise<RoutingSample> {
  const { runner, module, metric, contexts, onBatch } = request;
  const { input: scoresName, result, inputCount: expertCount, outputCount: size } = module.output;
  const all = countTokens(runner.batches);
  const stride = Math.max(1, Math.ceil(all / TOKENS));
  const tokenCount = Math.ceil(all / stride);
  const { unfusedExperts } = module;
  const scores = new Float32Array(unfusedExperts ? 0 : tokenCount * expertCount);
  const outputs = new Float32Array(tokenCount * size);
  const counts = new Int32Array(expertCount);
  const countsByContext = contexts && new Int32Array(contexts.contextCount * expertCount);
  let inputs: Float32Array | Uint16Array | undefined;
  let type: RoutingSample['type'] = 'float32';
  const { weighted, plain: _, ...extension } = metricNodes(result, { name: 'experts/sample', metric, size });
  const fetches = [module.input, unfusedExperts?.chosen ?? scoresName];
  for await (const { batch, values } of runner.observe({ fetches, reads: [result], extension })) {
    const read = readRows(values[module.input]!);
    type = read.type;
    inputs ??= type === 'float16' ? new Uint16Array(tokenCount * size) : new Float32Array(tokenCount * size);
    const choiceOf = readChoices(values, module);
    const results = tensorFloats(values[weighted]!, 'outputs of experts');
    for (let token = 0; token < batch.tokens.length; token += 1) {
      const { experts, row } = choiceOf(token);
      const position = batch.firstToken + token;
      for (const expert of experts) {
        counts[expert]! += 1;
        if (countsByContext) countsByContext[contexts!.contextOfToken[position]! * expertCount + expert]! += 1;
      }
      if (position % stride !== 0) continue;
      const at = position / stride;
      if (row !== undefined) scores.set(row, at * expertCount);
      inputs.set(read.data.subarray(token * size, (token + 1) * size), at * size);
      outputs.set(results.subarray(token * size, (token + 1) * size), at * size);
    }
    releaseTensors(values);
    onBatch();
  }
  return { type, tokenCount, inputs: inputs ?? new Float32Array(), scores, outputs, counts, countsByContext };
}

/** Routing of one token of a batch. */
interface Choice {
  readonly experts: readonly number[];
  /** Scores of all experts. */
  readonly row?: Float32Array;
}

function readChoices(values: Tensors, { output, expertsPerToken: count = 1, unfusedExperts }: PrunableModule) {
  if (unfusedExperts !== undefined) {
    const numbers = values[unfusedExperts.chosen]!.data as ArrayLike<number | bigint>;
    return (token: number): Choice => ({
      experts: Array.from({ length: count }, (_, at) => Number(numbers[token * count + at]!)),
    });
  }
  const found = tensorFloats(values[output.input]!, "the router's scores");
  const all = new Uint8Array(output.inputCount).fill(1);
  return (token: number): Choice => {
    const row = found.subarray(token * output.inputCount, (token + 1) * output.inputCount);
    return { experts: rankExperts(row, all, count).experts, row };
  };
}

function readRows(tensor: Tensor): Pick<RoutingSample, 'type'> & { readonly data: Float32Array | Uint16Array } {
  if (tensor.type === 'float16') return { type: 'float16', data: tensor.data };
  return { type: 'float32', data: tensorFloats(tensor, 'inputs of experts') };
}
