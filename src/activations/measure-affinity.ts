import type { NodeProto } from 'onnx-buf';
import type { BlockSpan, PrunableModule } from '../architecture/layout.js';
import { appendCrossEntropy } from '../autodiff/cross-entropy.js';
import { buildGradientGraph } from '../autodiff/gradient-graph.js';
import { NumericalError } from '../errors.js';
import { makeInt64Initializer, makeNode } from '../graph/build.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { type AnalysedModel, factsForSize } from '../runtime/analyse-model.js';
import { type Batch, indexRunGraph, type SideValues } from '../runtime/block-runner.js';
import { compileStage, type LoadedSlice, type StageExtension } from '../runtime/compile-stage.js';
import type { Engine, Tensor } from '../runtime/engine.js';
import type { HiddenStates } from '../runtime/hidden-states.js';
import { prefillFeeds } from '../runtime/prefill-feeds.js';
import { oneHot } from './sum-by-context.js';

/** Contexts of the tokens as one FFN sees them. */
export interface TokenContexts {
  readonly contextCount: number;
  /** Context of every calibration token. */
  readonly contextOfToken: Int32Array;
}

export interface AffinityRequest {
  readonly engine: Engine;
  /** The dense model. */
  readonly model: OnnxModel;
  readonly analysed: AnalysedModel;
  readonly batches: readonly Batch[];
  readonly spans: readonly BlockSpan[];
  /** Hidden states of the dense model on the stream: batch `b` at the input of span `s` is entry `s * batches + b`; the last span's output follows. */
  readonly archive: HiddenStates;
  readonly side: SideValues;
  /** Modules to measure, with the contexts of each. */
  readonly targets: ReadonlyMap<PrunableModule, TokenContexts>;
  /** Where cotangents of the hidden states wait between blocks. */
  readonly cotangents: HiddenStates;
  readonly onBatch?: (detail: string) => void;
  readonly signal?: AbortSignal | undefined;
}

export interface Affinities {
  /** `S[k][j]`, `[contextCount, neurons]` row-major, by module. */
  readonly affinity: ReadonlyMap<PrunableModule, Float64Array>;
  /** Mean next-token cross-entropy of the dense model over all windows, in nats. */
  readonly loss: number;
}

/**
 * Cluster-neuron affinity: mean over the tokens of a context of |h_j dL/dh_j|, L the next-token cross-entropy of the dense
 * model (mean over the window). Runs backwards block by block, last to first; each block's forward is computed again from
 * its stored input, so that only one block's weights and activations are in memory.
 *
 * @throws UnsupportedModelError when an operator on the way has no gradient rule. @throws NumericalError for NaN gradients.
 * @see FANG (arXiv 2512.23014), Eq. 5
 */
export async function measureAffinity(request: AffinityRequest): Promise<Affinities> {
  const { spans, targets } = request;
  const loss = await startAtLoss(request);
  const affinity = new Map<PrunableModule, Float64Array>();
  for (const [at, span] of [...spans.entries()].reverse()) {
    const modules = [...targets.keys()].filter(
      ({ block, segment }) => block === span.block && segment >= span.first && segment <= span.last,
    );
    for (const [module, sums] of await stepBack(request, { at, span, modules })) affinity.set(module, sums);
  }
  return { affinity, loss };
}

/** Loss of every window and its cotangent at the last hidden state, one window at a time: logits are large. */
async function startAtLoss(request: AffinityRequest): Promise<number> {
  const { engine, model, analysed, batches, spans, archive, side, cotangents } = request;
  const { layout, partition } = analysed.detected;
  const input = partition.cuts.at(-1)!;
  const sequenceLength = batches[0]?.sequenceLength ?? 0;
  const facts = factsForSize(analysed, { batchSize: 1, sequenceLength });
  const index = indexRunGraph(model);
  const opset = opsetOf(model);
  let names = { loss: '', cotangent: '' };
  const extension = ({ nodes, initializers }: LoadedSlice): StageExtension => {
    const entropy = appendCrossEntropy({
      logits: { value: layout.logits, fact: facts.get(layout.logits)! },
      tokens: 'loss_tokens',
      opset,
    });
    const gradient = buildGradientGraph({
      graph: { nodes, initializers, opset },
      shapes: facts,
      outputs: [{ value: layout.logits, cotangent: entropy.cotangent }],
      wanted: [input],
    });
    names = { loss: entropy.loss, cotangent: gradient.gradients.get(input)! };
    return {
      nodes: [...entropy.nodes, ...gradient.nodes],
      initializers: [...entropy.initializers, ...gradient.initializers],
      inputs: [{ name: 'loss_tokens', type: 'int64' }],
      outputs: [names.loss, names.cotangent],
      domains: gradient.domains,
    };
  };
  const atHand = (value: string) => value === input || index.inputs.has(value) || side.has(value);
  const head = await compileStage({
    engine,
    model,
    index,
    atHand,
    fetches: [],
    reads: [layout.logits],
    extension,
    facts: analysed.facts,
  });
  let total = 0;
  try {
    for (const batch of batches) {
      const hidden = await archive.get(spans.length * batches.length + batch.index);
      const rows: Float32Array[] = [];
      for (let row = 0; row < batch.batchSize; row += 1) {
        request.signal?.throwIfAborted();
        const window = oneWindow(batch, row);
        const feeds = await feedsOf(request, {
          names: head.inputs,
          input,
          hidden: windowOf(hidden, row, batch.batchSize),
          batch: window,
        });
        const tokens: Tensor = {
          type: 'int64',
          dims: [1, sequenceLength],
          data: BigInt64Array.from(window.tokens, BigInt),
        };
        const results = await head.session.run({ ...feeds, loss_tokens: tokens });
        total += (results[names.loss]!.data as Float32Array)[0]!;
        rows.push(results[names.cotangent]!.data as Float32Array);
      }
      const dims = [batch.batchSize, ...hidden.dims.slice(1)];
      const data = new Float32Array(dims.reduce((product, dim) => product * dim, 1));
      rows.forEach((part, row) => {
        data.set(part, row * part.length);
      });
      await cotangents.put(batch.index, { type: 'float32', dims, data });
      request.onBatch?.('loss');
    }
  } finally {
    await head.session.release();
  }
  return total / batches.reduce((sum, { batchSize }) => sum + batchSize, 0);
}

interface Step {
  readonly at: number;
  readonly span: BlockSpan;
  readonly modules: readonly PrunableModule[];
}

/** Moves the cotangents back through one block and sums what its neurons did on the way. */
async function stepBack(
  request: AffinityRequest,
  { at, span, modules }: Step,
): Promise<Map<PrunableModule, Float64Array>> {
  const { batches, archive, cotangents, analysed, targets } = request;
  const input = analysed.detected.partition.cuts[span.first - 1]!;
  const sums = new Map(
    modules.map((module) => [module, new Float64Array(targets.get(module)!.contextCount * module.unitCount)]),
  );
  for (const batchSize of new Set(batches.map((batch) => batch.batchSize))) {
    const compiled = await compileStep(request, { at, span, modules }, batchSize);
    try {
      for (const batch of batches.filter((candidate) => candidate.batchSize === batchSize)) {
        request.signal?.throwIfAborted();
        const hidden = await archive.get(at * batches.length + batch.index);
        const feeds = await feedsOf(request, { names: compiled.inputs, input, hidden, batch });
        feeds['grad:out'] = await cotangents.get(batch.index);
        modules.forEach((module, k) => {
          const { contextOfToken, contextCount } = targets.get(module)!;
          feeds[`affinity/${k}/onehot`] = oneHot(
            batch,
            contextCount,
            (token) => contextOfToken[batch.firstToken + token]!,
          );
        });
        const results = await compiled.session.run(feeds);
        await cotangents.put(batch.index, results[compiled.cotangent]!);
        modules.forEach((module, k) => {
          const sum = sums.get(module)!;
          (results[`affinity/${k}/sums`]!.data as Float32Array).forEach((value, j) => {
            sum[j]! += value;
          });
        });
        request.onBatch?.(`block ${span.block} backwards`);
      }
    } finally {
      await compiled.session.release();
    }
  }
  for (const [module, sum] of sums) takeMeans(module, sum, targets.get(module)!);
  return sums;
}

async function compileStep(request: AffinityRequest, { span, modules }: Step, batchSize: number) {
  const { engine, model, analysed, batches, side } = request;
  const { cuts } = analysed.detected.partition;
  const input = cuts[span.first - 1]!;
  const output = cuts[span.last]!;
  const index = indexRunGraph(model);
  const facts = factsForSize(analysed, { batchSize, sequenceLength: batches[0]?.sequenceLength ?? 0 });
  let cotangent = '';
  const extension = ({ nodes, initializers }: LoadedSlice): StageExtension => {
    const gradient = buildGradientGraph({
      graph: { nodes, initializers, opset: opsetOf(model) },
      shapes: facts,
      outputs: [{ value: output, cotangent: 'grad:out' }],
      wanted: [input, ...modules.map((module) => module.output.input)],
    });
    cotangent = gradient.gradients.get(input)!;
    const affinities = modules.map((module, k) =>
      affinityNodes(module, k, gradient.gradients.get(module.output.input)!),
    );
    return {
      nodes: [...gradient.nodes, ...affinities.flatMap((part) => part.nodes)],
      initializers: [...gradient.initializers, ...affinities.map((part) => part.shape)],
      inputs: [
        { name: 'grad:out', type: 'float32' },
        ...modules.map((_, k) => ({ name: `affinity/${k}/onehot`, type: 'float32' as const })),
      ],
      outputs: [cotangent, ...modules.map((_, k) => `affinity/${k}/sums`)],
      domains: gradient.domains,
    };
  };
  const reads = [output, ...modules.map((module) => module.output.input)];
  const atHand = (value: string) => value === input || index.inputs.has(value) || side.has(value);
  const compiled = await compileStage({
    engine,
    model,
    index,
    atHand,
    fetches: [],
    reads,
    extension,
    facts: analysed.facts,
  });
  return { ...compiled, cotangent };
}

/** Context sums of |h dL/dh|. */
function affinityNodes({ output, unitCount }: PrunableModule, k: number, gradient: string) {
  const name = (what: string) => `affinity/${k}/${what}`;
  const node = (op: string, inputs: string[], result: string, attributes = {}): NodeProto =>
    makeNode({ op, inputs, outputs: [result], attributes });
  return {
    nodes: [
      node('Cast', [output.input], name('h'), { to: 1 }),
      node('Mul', [name('h'), gradient], name('product')),
      node('Abs', [name('product')], name('abs')),
      node('Reshape', [name('abs'), name('shape')], name('rows')),
      node('MatMul', [name('onehot'), name('rows')], name('sums')),
    ],
    shape: makeInt64Initializer(name('shape'), [-1, unitCount]),
  };
}

function takeMeans(module: PrunableModule, sums: Float64Array, { contextCount, contextOfToken }: TokenContexts): void {
  const counts = new Float64Array(contextCount);
  for (const context of contextOfToken) counts[context]! += 1;
  for (let at = 0; at < sums.length; at += 1) {
    const count = counts[Math.floor(at / module.unitCount)]!;
    sums[at] = count === 0 ? 0 : sums[at]! / count;
    if (!Number.isFinite(sums[at])) {
      throw new NumericalError(
        `the gradient of neuron ${at % module.unitCount} in block ${module.block} is NaN or infinite; check the weights, or run the model in float32`,
      );
    }
  }
}

interface FeedRequest {
  readonly names: readonly string[];
  readonly input: string;
  readonly hidden: Tensor;
  readonly batch: Batch;
}

async function feedsOf(
  { analysed, side }: AffinityRequest,
  { names, input, hidden, batch }: FeedRequest,
): Promise<Record<string, Tensor>> {
  const feeds = prefillFeeds(
    analysed.inputs.filter(({ name }) => names.includes(name)),
    batch,
    batch.tokens,
  );
  for (const name of names) feeds[name] ??= name === input ? hidden : side.get(name, batch);
  return feeds;
}

function windowOf(hidden: Tensor, row: number, batchSize: number): Tensor {
  const length = hidden.data.length / batchSize;
  return {
    ...hidden,
    dims: [1, ...hidden.dims.slice(1)],
    data: hidden.data.slice(row * length, (row + 1) * length),
  } as Tensor;
}

function oneWindow({ index, firstToken, sequenceLength, tokens }: Batch, row: number): Batch {
  const start = row * sequenceLength;
  return {
    index,
    firstToken: firstToken + start,
    batchSize: 1,
    sequenceLength,
    tokens: tokens.subarray(start, start + sequenceLength),
  };
}

function opsetOf({ proto }: OnnxModel): number {
  return Number(proto.opsetImport.find(({ domain }) => domain === '' || domain === 'ai.onnx')?.version ?? 0n);
}
