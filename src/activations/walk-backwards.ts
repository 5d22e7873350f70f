import type { BlockSpan } from '../architecture/layout.js';
import { appendCrossEntropy, type CrossEntropy, type Softening } from '../autodiff/cross-entropy.js';
import { buildGradientGraph } from '../autodiff/gradient-graph.js';
import type { GraphIndex } from '../graph/graph-index.js';
import { createRandom, type Random } from '../linalg/random.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { opsetOf } from '../onnx/opset-of.js';
import { type AnalysedModel, factsForSize } from '../runtime/analyse-model.js';
import { type Batch, indexRunGraph, type SideValues } from '../runtime/block-runner.js';
import { compileStage, joinExtensions, type LoadedSlice, type StageExtension } from '../runtime/compile-stage.js';
import type { Engine, Tensor } from '../runtime/engine.js';
import { prefillFeeds } from '../runtime/prefill-feeds.js';
import { releaseTensor, releaseTensors } from '../runtime/tensor-memory.js';
import type { TensorStore } from '../runtime/tensor-store.js';
import { joinFeeds, type StageMeter } from './stage-meter.js';

/** A measurement of a block in the backward pass, opened when the cotangents that it reads have names. */
export interface BackwardMeter {
  /** Values of the block that the meter reads. */
  readonly reads: readonly string[];
  /** Those whose cotangents it reads. */
  readonly wanted: readonly string[];
  /** @param gradientOf Name of the value that holds a wanted cotangent: float32, with the dims of the value. */
  open(gradientOf: (value: string) => string): StageMeter;
}

export interface BackwardWalk {
  readonly engine: Engine;
  /** The dense model. */
  readonly model: OnnxModel;
  readonly analysed: AnalysedModel;
  /** Some or all of the batches that `side` was made for. */
  readonly batches: readonly Batch[];
  readonly spans: readonly BlockSpan[];
  /** Hidden states of the dense model on the stream: the `b`-th batch at the input of span `s` is entry `s * batches + b`; the last span's output follows. */
  readonly archive: TensorStore;
  readonly side: SideValues;
  /** Cotangents of the hidden states between blocks; in the end those of the first block's output. */
  readonly cotangents: TensorStore;
  /** Targets drawn from the model's softened prediction; absent: the windows' own next tokens. */
  readonly softened?: Softening | undefined;
  /** Meters of one block. */
  metersOf(span: BlockSpan): readonly BackwardMeter[];
  /** Where an earlier walk was cut off, whose cotangents `cotangents` holds. Absent: it starts at the loss. */
  readonly start?: BackwardPlace | undefined;
  /** Called after a block's meters have seen all batches, with where the walk stands then. */
  onSpan?(span: BlockSpan, place: BackwardPlace): Promise<void>;
  readonly onBatch?: (detail: string) => void;
  readonly signal?: AbortSignal | undefined;
}

/** Where a walk stands between two blocks. */
export interface BackwardPlace {
  /** Spans that are still to come: the first so many. */
  readonly left: number;
  /** Mean loss over all windows, in nats. */
  readonly loss: number;
}

/**
 * Runs the gradient of the next-token cross-entropy (mean over the window) backwards through a model, block by block, last
 * to first, under some meters. Each block's forward is computed again from its stored input, so that only one block's
 * weights and activations are in memory.
 *
 * @returns Mean loss over all windows, in nats.
 * @throws UnsupportedModelError when an operator on the way has no gradient rule.
 */
export async function walkBackwards(given: BackwardWalk): Promise<number> {
  const { spans, start } = given;
  const walk = { ...given, index: indexRunGraph(given.model) };
  const loss = start?.loss ?? (await startAtLoss(walk));
  for (let at = (start?.left ?? spans.length) - 1; at >= 0; at -= 1) {
    const span = spans[at]!;
    await stepBack(walk, { at, span });
    await walk.onSpan?.(span, { left: at, loss });
  }
  return loss;
}

/** A walk over a graph that was indexed once, since it stays as it is. */
interface IndexedWalk extends BackwardWalk {
  readonly index: GraphIndex;
}

/** Loss of every window and its cotangent at the last hidden state, one window at a time: logits are large. */
async function startAtLoss(walk: IndexedWalk): Promise<number> {
  const { engine, model, index, analysed, batches, spans, archive, cotangents } = walk;
  const { layout, partition } = analysed.detected;
  const input = partition.cuts.at(-1)!;
  const sequenceLength = batches[0]?.sequenceLength ?? 0;
  const facts = factsForSize(analysed, { batchSize: 1, sequenceLength });
  const opset = opsetOf(model.proto);
  let names: Pick<CrossEntropy, 'loss' | 'cotangent' | 'draws'> = { loss: '', cotangent: '' };
  const random = createRandom(walk.softened?.seed ?? 0);
  const extension = ({ nodes, initializers }: LoadedSlice): StageExtension => {
    const entropy = appendCrossEntropy({
      logits: { value: layout.logits, fact: facts.get(layout.logits)! },
      tokens: 'loss_tokens',
      opset,
      softened: walk.softened,
    });
    const gradient = buildGradientGraph({
      graph: { nodes, initializers, opset },
      shapes: facts,
      outputs: [{ value: layout.logits, cotangent: entropy.cotangent }],
      wanted: [input],
    });
    names = { loss: entropy.loss, cotangent: gradient.gradients.get(input)!, draws: entropy.draws };
    const draws = names.draws === undefined ? [] : [{ name: names.draws, type: 'float32' as const }];
    return {
      nodes: [...entropy.nodes, ...gradient.nodes],
      initializers: [...entropy.initializers, ...gradient.initializers],
      inputs: [{ name: 'loss_tokens', type: 'int64' }, ...draws],
      outputs: [names.loss, names.cotangent],
      domains: gradient.domains,
    };
  };
  // Other values of the forward pass have a whole batch's size, so they are computed again.
  const atHand = (value: string) => value === input || index.inputs.has(value);
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
    for (const [position, batch] of batches.entries()) {
      const hidden = await archive.get(spans.length * batches.length + position);
      const rows: Tensor[] = [];
      for (let row = 0; row < batch.batchSize; row += 1) {
        walk.signal?.throwIfAborted();
        const window = oneWindow(batch, row);
        const feeds = await feedsOf(walk, {
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
        const draws = names.draws === undefined ? {} : { [names.draws]: drawUniformly(random, sequenceLength) };
        const results = await head.session.run({ ...feeds, loss_tokens: tokens, ...draws });
        total += (results[names.loss]!.data as Float32Array)[0]!;
        rows.push(results[names.cotangent]!);
      }
      const { dims } = hidden;
      const data = new Float32Array(hidden.data.length);
      rows.forEach((part, row) => {
        data.set(part.data as Float32Array, row * part.data.length);
        releaseTensor(part);
      });
      await cotangents.put(position, { type: 'float32', dims, data });
      walk.onBatch?.('loss');
    }
  } finally {
    await head.session.release();
  }
  return total / batches.reduce((sum, { batchSize }) => sum + batchSize, 0);
}

/** A number in [0, 1) for every position of a window. */
function drawUniformly(random: Random, sequenceLength: number): Tensor {
  const data = Float32Array.from({ length: sequenceLength }, random);
  return { type: 'float32', dims: [1, sequenceLength, 1], data };
}

interface Step {
  readonly at: number;
  readonly span: BlockSpan;
}

/** Moves the cotangents back through one block, under its meters. */
async function stepBack(walk: IndexedWalk, { at, span }: Step): Promise<void> {
  const { batches, archive, cotangents, analysed } = walk;
  const input = analysed.detected.partition.cuts[span.first - 1]!;
  const meters = walk.metersOf(span);
  // No earlier block reads the first block's input cotangent.
  if (at === 0 && meters.length === 0) return;
  for (const batchSize of new Set(batches.map((batch) => batch.batchSize))) {
    const compiled = await compileStep(walk, { span, meters, batchSize, goesOn: at > 0 });
    try {
      for (const [position, batch] of batches.entries()) {
        if (batch.batchSize !== batchSize) continue;
        walk.signal?.throwIfAborted();
        const hidden = await archive.get(at * batches.length + position);
        const feeds = await feedsOf(walk, { names: compiled.inputs, input, hidden, batch });
        const cotangent = await cotangents.get(position);
        const results = await compiled.session.run({
          ...feeds,
          ...(await joinFeeds(compiled.meters, batch)),
          [OUTPUT_COTANGENT]: cotangent,
        });
        if (compiled.cotangent !== undefined) await cotangents.put(position, results[compiled.cotangent]!);
        for (const meter of compiled.meters) meter.add(batch, results);
        releaseTensors(results);
        walk.onBatch?.(`block ${span.block} backwards`);
      }
    } finally {
      await compiled.session.release();
    }
  }
}

/** Graph input that holds the cotangent of a block's output. */
const OUTPUT_COTANGENT = 'grad:out';

interface BlockStep {
  readonly span: BlockSpan;
  readonly meters: readonly BackwardMeter[];
  readonly batchSize: number;
  /** Whether the backward pass goes on to an earlier block. */
  readonly goesOn: boolean;
}

async function compileStep(walk: IndexedWalk, { span, meters, batchSize, goesOn }: BlockStep) {
  const { engine, model, index, analysed, batches, side } = walk;
  const { cuts } = analysed.detected.partition;
  const input = cuts[span.first - 1]!;
  const output = cuts[span.last]!;
  const wanted = [...new Set(meters.flatMap((meter) => meter.wanted))];
  const facts = factsForSize(analysed, { batchSize, sequenceLength: batches[0]?.sequenceLength ?? 0 });
  let cotangent: string | undefined;
  let opened: readonly StageMeter[] = [];
  const extension = ({ nodes, initializers }: LoadedSlice): StageExtension => {
    const gradient = buildGradientGraph({
      graph: { nodes, initializers, opset: opsetOf(model.proto) },
      shapes: facts,
      outputs: [{ value: output, cotangent: OUTPUT_COTANGENT }],
      wanted: goesOn || wanted.length === 0 ? [input, ...wanted] : wanted,
    });
    cotangent = gradient.gradients.get(input);
    opened = meters.map((meter) => meter.open((value) => gradient.gradients.get(value)!));
    return joinExtensions([
      {
        ...gradient,
        inputs: [{ name: OUTPUT_COTANGENT, type: 'float32' }],
        outputs: cotangent === undefined ? [] : [cotangent],
      },
      ...opened.map((meter) => meter.extension),
    ]);
  };
  const compiled = await compileStage({
    engine,
    model,
    index,
    atHand: (value) => value === input || index.inputs.has(value) || side.has(value),
    fetches: [],
    reads: [output, ...wanted, ...meters.flatMap(({ reads }) => reads)],
    extension,
    facts: analysed.facts,
  });
  return { ...compiled, cotangent, meters: opened };
}

interface FeedRequest {
  readonly names: readonly string[];
  readonly input: string;
  readonly hidden: Tensor;
  readonly batch: Batch;
}

async function feedsOf(
  { analysed, side }: BackwardWalk,
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

/** One window of a hidden state `[B, S, C]`, or `[B S, C]` as some graphs flatten it. */
function windowOf(hidden: Tensor, row: number, batchSize: number): Tensor {
  const length = hidden.data.length / batchSize;
  const [rows = batchSize, ...rest] = hidden.dims;
  return {
    ...hidden,
    dims: [rows / batchSize, ...rest],
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
