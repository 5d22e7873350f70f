import { metricNodes } from '../../activations/expert-probe.js';
import { rankExperts } from '../../activations/mix-experts.js';
import type { PrunableModule } from '../../architecture/layout.js';
import type { BlockRunner } from '../../runtime/block-runner.js';
import type { Tensor } from '../../runtime/engine.js';
import { tensorFloats } from '../../runtime/tensor-floats.js';
import { releaseTensors } from '../../runtime/tensor-memory.js';

/** What went into a mixture and came out, of some of the calibration's tokens. */
export interface RoutingSample {
  readonly type: 'float32' | 'float16';
  readonly tokenCount: number;
  /** `[tokens, channels]`, what the experts read. */
  readonly inputs: Float32Array | Uint16Array;
  /** `[tokens, experts]` */
  readonly scores: Float32Array;
  /** `[tokens, channels]`, what the mixture made, as the metric sees it. */
  readonly outputs: Float32Array;
  /** Tokens that went to each expert, of all tokens of the calibration. */
  readonly counts: Int32Array;
}

/** Tokens that removals are tried on, at most: memory is bounded, and each expert gets hundreds. */
const TOKENS = 8192;

export interface SampleRequest {
  readonly runner: BlockRunner;
  readonly module: PrunableModule;
  readonly metric: Float32Array | undefined;
  onBatch(): void;
}

/** Runs the current stage of a runner, and takes what its mixture reads and makes. */
export async function sampleRouting(request: SampleRequest): Promise<RoutingSample> {
  const { runner, module, metric, onBatch } = request;
  const { input: scoresName, result, inputCount: expertCount, outputCount: size } = module.output;
  const all = runner.batches.reduce((sum, { tokens }) => sum + tokens.length, 0);
  const stride = Math.max(1, Math.ceil(all / TOKENS));
  const tokenCount = Math.ceil(all / stride);
  const scores = new Float32Array(tokenCount * expertCount);
  const outputs = new Float32Array(tokenCount * size);
  const counts = new Int32Array(expertCount);
  const everyone = new Uint8Array(expertCount).fill(1);
  let inputs: Float32Array | Uint16Array | undefined;
  let type: RoutingSample['type'] = 'float32';
  const { weighted, plain: _, ...extension } = metricNodes(result, { name: 'experts/sample', metric, size });
  const fetches = [module.input, scoresName];
  for await (const { batch, values } of runner.observe({ fetches, reads: [result], extension })) {
    const read = readRows(values[module.input]!);
    type = read.type;
    inputs ??= type === 'float16' ? new Uint16Array(tokenCount * size) : new Float32Array(tokenCount * size);
    const found = tensorFloats(values[scoresName]!, "the router's scores");
    const made = tensorFloats(values[weighted]!, 'what experts make');
    for (let token = 0; token < batch.tokens.length; token += 1) {
      const row = found.subarray(token * expertCount, (token + 1) * expertCount);
      for (const expert of rankExperts(row, everyone, module.expertsPerToken!).experts) counts[expert]! += 1;
      const place = batch.firstToken + token;
      if (place % stride !== 0) continue;
      const at = place / stride;
      scores.set(row, at * expertCount);
      inputs.set(read.data.subarray(token * size, (token + 1) * size), at * size);
      outputs.set(made.subarray(token * size, (token + 1) * size), at * size);
    }
    releaseTensors(values);
    onBatch();
  }
  return { type, tokenCount, inputs: inputs ?? new Float32Array(), scores, outputs, counts };
}

function readRows(tensor: Tensor): Pick<RoutingSample, 'type'> & { readonly data: Float32Array | Uint16Array } {
  if (tensor.type === 'float16') return { type: 'float16', data: tensor.data };
  return { type: 'float32', data: tensorFloats(tensor, 'what experts read') };
}
