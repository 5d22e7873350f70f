import type { BlockSpan } from '../architecture/layout.js';
import { createRandom } from '../linalg/random.js';
import { carriedOf } from '../onnx/extract-stage.js';
import { isFloatType } from '../onnx/float-encoding.js';
import { type GraphIndex, inputsOf } from '../onnx/graph-index.js';
import { isPositionwise } from '../onnx/is-positionwise.js';
import type { OnnxModel } from '../onnx/onnx-model.js';
import { opsetOf } from '../onnx/opset-of.js';
import { influencedValues, partitionGraph } from '../onnx/partition.js';
import type { ValueFacts } from '../onnx/value-facts.js';
import { appendCrossEntropy, type CrossEntropy, type Softening } from '../operators/cross-entropy.js';
import { buildGradientGraph } from '../operators/gradient-graph.js';
import { type AnalysedModel, factsForSize } from '../runtime/analyse-model.js';
import { type Batch, indexRunGraph, type SideValues } from '../runtime/block-runner.js';
import { compileStage, joinExtensions, type LoadedSlice, type StageExtension } from '../runtime/compile-stage.js';
import type { Engine, Tensor } from '../runtime/engine.js';
import { measureFacts } from '../runtime/measure-facts.js';
import { stageFeeds } from '../runtime/stage-feeds.js';
import { releaseTensor, releaseTensors } from '../runtime/tensor-memory.js';
import type { TensorStore } from '../runtime/tensor-store.js';
import {
  type CarriedCotangents,
  type CarriedValue,
  cotangentOf,
  OUTPUT_COTANGENT,
  openCarriedCotangents,
} from './carried-cotangents.js';
import { joinFeeds, type StageMeter } from './stage-meter.js';

/** A measurement of a block in the backward pass, opened when the names of its cotangents are known. */
export interface BackwardMeter {
  /** Values of the block that the meter reads. */
  readonly reads: readonly string[];
  /** Values whose cotangents it reads. */
  readonly wanted: readonly string[];
  /** @param gradientOf Name of the wanted cotangent of a value: float32, with the dims of the value. */
  open(gradientOf: (value: string) => string): StageMeter;
}

export interface Backpropagation {
  readonly engine: Engine;
  /** The dense model. */
  readonly model: OnnxModel;
  readonly analysed: AnalysedModel;
  /** Some or all of the batches of `side`. */
  readonly batches: readonly Batch[];
  readonly spans: readonly BlockSpan[];
  /** Hidden states of the dense model: entry `s * batches + b` is the input of span `s` for batch `b`; the last span's output follows. */
  readonly archive: TensorStore;
  readonly side: SideValues;
  /**
   * Cotangents of the hidden states between blocks, by batch; finally those of the first block's output. Those of values that
   * several blocks read follow.
   */
  readonly cotangents: TensorStore;
  /** Targets drawn from the model's softened prediction; absent: the windows' own next tokens. */
  readonly softened?: Softening | undefined;
  /** Meters of one block. */
  metersOf(span: BlockSpan): readonly BackwardMeter[];
  /** Logits that are in memory at once. Default 2^25. */
  readonly mostLogits?: number | undefined;
  /** Index in `spans` of the block at which the backward pass ends. Default 0. */
  readonly lowest?: number | undefined;
  /** Position of an interrupted backward pass, whose cotangents are in `cotangents`. Absent: it starts at the loss. */
  readonly start?: BackwardPlace | undefined;
  /** Called after each block, once its meters have read all batches, with the position of the backward pass. */
  onSpan?(span: BlockSpan, place: BackwardPlace): Promise<void>;
  readonly onBatch?: (detail: string, part: 'loss' | 'block') => void;
  readonly signal?: AbortSignal | undefined;
}

/** Position of a backward pass between two blocks. */
export interface BackwardPlace {
  /** Number of spans that remain to be done: the first ones. */
  readonly left: number;
  /** Entries of `cotangents` that are in use, except those of hidden states. */
  readonly carriedEntries: readonly number[];
  /** Mean loss over all windows, in nats. */
  readonly loss: number;
}

/**
 * Runs the gradient of the next-token cross-entropy (mean over the window) backwards through a model, block by block,
 * last to first, with meters. Each block's forward pass is computed again from its stored input, so that only one
 * block's weights and activations are in memory.
 *
 * @returns Mean loss over all windows, in nats.
 * @throws UnsupportedModelError when an operator in between has no gradient rule.
 */
export async function backpropagate(given: Backpropagation): Promise<number> {
  const { spans, start, batches, cotangents } = given;
  const index = indexRunGraph(given.model);
  const carried = openCarriedCotangents({
    values: findCarried(given, index),
    batchCount: batches.length,
    cotangents,
    entries: start?.carriedEntries,
  });
  const pass = { ...given, index, carried };
  const loss = start?.loss ?? (await startAtLoss(pass));
  for (let at = (start?.left ?? spans.length) - 1; at >= (given.lowest ?? 0); at -= 1) {
    const span = spans[at]!;
    await backpropagateBlock(pass, { at, span });
    await pass.onSpan?.(span, { left: at, loss, carriedEntries: carried.entries() });
  }
  return loss;
}

/** A backward pass with the graph's index. */
interface IndexedBackpropagation extends Backpropagation {
  readonly index: GraphIndex;
  readonly carried: CarriedCotangents;
}

/** Values computed from hidden states that later blocks also read. */
function findCarried({ analysed, spans, metersOf }: Backpropagation, index: GraphIndex): CarriedValue[] {
  const { cuts } = analysed.detected.partition;
  const ofFirst = influencedValues(
    index.nodes,
    spans
      .slice(0, 1)
      .flatMap(metersOf)
      .flatMap(({ wanted }) => wanted),
  );
  const isFloat = (name: string) => isFloatType(analysed.facts.first.get(name)?.dataType ?? 0);
  return carriedOf(index, partitionGraph(index, cuts), cuts[0]!).map(({ name, stage }) => {
    const span = spans.findIndex(({ first, last }) => first <= stage && stage <= last);
    return { name, span, isWanted: isFloat(name) && (span > 0 || ofFirst.has(name)) };
  });
}

/** Loss of every window and its cotangent at the last hidden state, one window or a part of it at a time: logits are large. */
async function startAtLoss(pass: IndexedBackpropagation): Promise<number> {
  const { engine, model, index, analysed, batches, spans, archive, cotangents, mostLogits = MAX_LOGITS } = pass;
  const { layout, partition } = analysed.detected;
  const input = partition.cuts.at(-1)!;
  const sequenceLength = batches[0]?.sequenceLength ?? 0;
  const axis = windowAxis(analysed, input);
  const isDivisible =
    axis === 0 &&
    analysed.facts.first.get(input)?.dims.length === 3 &&
    isPositionwise(index, { from: input, to: layout.logits });
  const { partLength, starts } = divideWindow(
    sequenceLength,
    isDivisible ? mostLogits / layout.vocabularySize : sequenceLength,
  );
  const facts = factsForSize(analysed, { batchSize: 1, sequenceLength: partLength });
  const opset = opsetOf(model.proto);
  let names: Pick<CrossEntropy, 'loss' | 'cotangent' | 'draws'> = { loss: '', cotangent: '' };
  const random = createRandom(pass.softened?.seed ?? 0);
  for (let skipped = (pass.softened?.firstWindow ?? 0) * sequenceLength; skipped > 0; skipped -= 1) random();
  const extension = ({ nodes, initializers }: LoadedSlice): StageExtension => {
    const entropy = appendCrossEntropy({
      logits: { value: layout.logits, fact: facts.get(layout.logits)! },
      tokens: 'loss_tokens',
      opset,
      softened: pass.softened,
      scale: 1 / (sequenceLength - 1),
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
  // Other values of the forward pass have an entire batch's size, so they are computed again.
  const isAvailable = (value: string) => value === input || index.inputs.has(value);
  const head = await compileStage({
    engine,
    model,
    index,
    isAvailable,
    fetches: [],
    reads: [layout.logits],
    extension,
    facts: analysed.facts,
  });
  let total = 0;
  try {
    for (const [position, batch] of batches.entries()) {
      const hidden = await archive.get(spans.length * batches.length + position);
      const place = { axis, batchSize: batch.batchSize };
      const rows: Tensor[] = [];
      for (let row = 0; row < batch.batchSize; row += 1) {
        pass.signal?.throwIfAborted();
        const window = windowAt(batch, row);
        const own = windowOf(hidden, row, place);
        const drawn = names.draws === undefined ? undefined : Float32Array.from({ length: sequenceLength }, random);
        const parts: Tensor[] = [];
        for (const start of starts) {
          const end = start + partLength;
          const batchOfPart = { ...window, tokens: window.tokens.subarray(start, end), sequenceLength: partLength };
          const feeds = stageFeeds(pass, {
            names: head.inputs,
            input,
            hidden: partLength === sequenceLength ? own : positionsOf(own, start, end),
            batch: batchOfPart,
          });
          const tokens: Tensor = {
            type: 'int64',
            dims: [1, partLength],
            data: BigInt64Array.from(batchOfPart.tokens, BigInt),
          };
          const draws = drawn && { [names.draws!]: asDraws(drawn.slice(start, end)) };
          const results = await head.session.run({ ...feeds, loss_tokens: tokens, ...draws });
          total += (results[names.loss]!.data as Float32Array)[0]!;
          parts.push(results[names.cotangent]!);
        }
        rows.push(parts.length === 1 ? parts[0]! : joinParts(parts, starts, own));
      }
      const { dims } = hidden;
      const data = new Float32Array(hidden.data.length);
      rows.forEach((part, row) => {
        const from = part.data as Float32Array;
        eachRun({ ...place, dims: part.dims, row }, (at, start, length) =>
          data.set(from.subarray(at, at + length), start),
        );
        releaseTensor(part);
      });
      clearZeroTokens({ type: 'float32', dims, data }, hidden);
      await cotangents.put(position, { type: 'float32', dims, data });
      pass.onBatch?.('loss', 'loss');
    }
  } finally {
    await head.session.release();
  }
  return total / batches.reduce((sum, { batchSize }) => sum + batchSize, 0);
}

/** Logits of a window that are in memory at once, some of them several times (128 MiB each); but see `divideWindow`. */
const MAX_LOGITS = 2 ** 25;

/** Numbers in [0, 1), one for every position. */
const asDraws = (data: Float32Array): Tensor => ({ type: 'float32', dims: [1, data.length, 1], data });

/**
 * Divides a window into parts of equal length. Each begins with the last position of the one before, since a position's
 * loss needs the next token. A window whose number of predictions has no suitable divisor is one part.
 */
function divideWindow(
  sequenceLength: number,
  most: number,
): { readonly partLength: number; readonly starts: number[] } {
  const predictions = sequenceLength - 1;
  const undivided = { partLength: sequenceLength, starts: [0] };
  if (sequenceLength <= most) return undivided;
  let step = Math.max(1, Math.floor(most) - 1);
  while (predictions % step !== 0) step -= 1;
  if (step < MIN_PART) return undivided;
  return { partLength: step + 1, starts: Array.from({ length: predictions / step }, (_, at) => at * step) };
}

/** Fewest predictions of a part: each part reads the entire LM head. */
const MIN_PART = 16;

/** Positions `start` to `end` (exclusive) of hidden states `[1, S, C]`. */
function positionsOf(hidden: Tensor, start: number, end: number): Tensor {
  const [, , width = 1] = hidden.dims;
  const data = (hidden.data as Float32Array).slice(start * width, end * width);
  return { ...hidden, dims: [1, end - start, width], data } as Tensor;
}

/** Cotangents of a window from those of its parts. */
function joinParts(parts: readonly Tensor[], starts: readonly number[], { dims }: Pick<Tensor, 'dims'>): Tensor {
  const [, length = 1, width = 1] = dims;
  const data = new Float32Array(length * width);
  for (const [at, part] of parts.entries()) {
    // A part's last position is the first of the next part, and 0 here.
    const own = (part.data as Float32Array).subarray(0, (part.dims[1]! - 1) * width);
    data.set(own, starts[at]! * width);
    releaseTensor(part);
  }
  return { type: 'float32', dims, data };
}

interface Step {
  readonly at: number;
  readonly span: BlockSpan;
}

/** Runs the backward pass of one block with its meters. */
async function backpropagateBlock(pass: IndexedBackpropagation, { at, span }: Step): Promise<void> {
  const { batches, archive, cotangents, analysed } = pass;
  const input = analysed.detected.partition.cuts[span.first - 1]!;
  const meters = pass.metersOf(span);
  if (!hasEarlierBlocks(pass, at) && meters.length === 0) return;
  for (const batchSize of new Set(batches.map((batch) => batch.batchSize))) {
    const facts = await factsOfStep(pass, { at, span, meters, batchSize });
    const compiled = await compileStep(pass, { at, span, meters, batchSize, facts });
    try {
      for (const [position, batch] of batches.entries()) {
        if (batch.batchSize !== batchSize) continue;
        pass.signal?.throwIfAborted();
        const hidden = await archive.get(at * batches.length + position);
        const feeds = stageFeeds(pass, { names: compiled.inputs, input, hidden, batch });
        const cotangent = await cotangents.get(position);
        const results = await compiled.session.run({
          ...feeds,
          ...(await joinFeeds(compiled.meters, batch)),
          [OUTPUT_COTANGENT]: cotangent,
          ...(await pass.carried.feeds(compiled.withCotangent, position)),
        });
        if (compiled.cotangent !== undefined) {
          const inputCotangent = results[compiled.cotangent]!;
          clearZeroTokens(inputCotangent, hidden);
          await cotangents.put(position, inputCotangent);
        }
        for (const [value, name] of compiled.carried) await pass.carried.add(value, position, results[name]!);
        for (const meter of compiled.meters) meter.add(batch, results);
        releaseTensors(results);
        pass.onBatch?.(`block ${span.block} backwards`, 'block');
      }
    } finally {
      await compiled.session.release();
    }
  }
}

/** Whether the backward pass continues to earlier blocks. */
const hasEarlierBlocks = ({ lowest = 0 }: Backpropagation, at: number): boolean => at > lowest;

interface BlockStep extends Step {
  readonly meters: readonly BackwardMeter[];
  readonly batchSize: number;
}

/** Facts about a block's values in batches of a size: extrapolated, or measured with the first of them. */
async function factsOfStep(
  pass: IndexedBackpropagation,
  { at, span, meters, batchSize }: BlockStep,
): Promise<ValueFacts> {
  const { engine, model, index, analysed, batches, side, archive } = pass;
  const { cuts } = analysed.detected.partition;
  const input = cuts[span.first - 1]!;
  const extrapolated = factsForSize(analysed, { batchSize, sequenceLength: batches[0]?.sequenceLength ?? 0 });
  if (!analysed.facts.stepped?.size) return extrapolated;
  const position = batches.findIndex((batch) => batch.batchSize === batchSize);
  const hidden = await archive.get(at * batches.length + position);
  const isOwn = new Set(pass.carried.allIn(at));
  const measured = await measureFacts({
    engine,
    model,
    index,
    facts: analysed.facts,
    isAvailable: (value) => value === input || index.inputs.has(value) || (side.has(value) && !isOwn.has(value)),
    outputs: [
      cuts[span.last]!,
      ...pass.carried.computedIn(at),
      ...meters.flatMap(({ reads, wanted }) => [...reads, ...wanted]),
    ],
    feedsOf: (names) => stageFeeds(pass, { names, input, hidden, batch: batches[position]! }),
  });
  return new Map([...extrapolated, ...measured]);
}

async function compileStep(
  pass: IndexedBackpropagation,
  { at, span, meters, facts }: BlockStep & { readonly facts: ValueFacts },
) {
  const { engine, model, index, analysed, side, carried } = pass;
  const { cuts } = analysed.detected.partition;
  const continues = hasEarlierBlocks(pass, at);
  const own = carried.computedIn(at);
  const withCotangent = own.filter((name) => carried.has(name));
  const isOwn = new Set(carried.allIn(at));
  const input = cuts[span.first - 1]!;
  const output = cuts[span.last]!;
  const wanted = [...new Set(meters.flatMap((meter) => meter.wanted))];
  let cotangent: string | undefined;
  let opened: readonly StageMeter[] = [];
  let carriedGradients: ReadonlyMap<string, string> = new Map();
  const extension = ({ nodes, initializers }: LoadedSlice): StageExtension => {
    const isRead = new Set(nodes.flatMap(inputsOf));
    const before = continues ? carried.computedBefore(at).filter((name) => isRead.has(name)) : [];
    const gradient = buildGradientGraph({
      graph: { nodes, initializers, opset: opsetOf(model.proto) },
      shapes: facts,
      outputs: [
        { value: output, cotangent: OUTPUT_COTANGENT },
        ...withCotangent.map((value) => ({ value, cotangent: cotangentOf(value) })),
      ],
      wanted: [...(continues || wanted.length === 0 ? [input] : []), ...wanted, ...before],
    });
    cotangent = gradient.gradients.get(input);
    carriedGradients = new Map(before.map((name) => [name, gradient.gradients.get(name)!]));
    opened = meters.map((meter) => meter.open((value) => gradient.gradients.get(value)!));
    return joinExtensions([
      {
        ...gradient,
        inputs: [OUTPUT_COTANGENT, ...withCotangent.map(cotangentOf)].map((name) => ({ name, type: 'float32' })),
        outputs: [...(cotangent === undefined ? [] : [cotangent]), ...carriedGradients.values()],
      },
      ...opened.map((meter) => meter.extension),
    ]);
  };
  const compiled = await compileStage({
    engine,
    model,
    index,
    isAvailable: (value) => value === input || index.inputs.has(value) || (side.has(value) && !isOwn.has(value)),
    fetches: [],
    reads: [output, ...withCotangent, ...wanted, ...meters.flatMap(({ reads }) => reads)],
    extension,
    facts: analysed.facts,
  });
  return { ...compiled, cotangent, carried: carriedGradients, withCotangent, meters: opened };
}

/**
 * Sets the cotangents of tokens whose hidden state is all zeros to zero, such as those of an untrained embedding. A
 * norm has no direction there, and its derivative, 1 / sqrt(epsilon), overflows after a few norms.
 */
function clearZeroTokens({ data, dims }: Tensor, hidden: Tensor): void {
  const width = dims.at(-1) ?? 0;
  const states = hidden.data as Float32Array;
  for (let start = 0; start < states.length; start += width) {
    let at = start;
    while (at < start + width && states[at] === 0) at += 1;
    if (at === start + width) (data as Float32Array).fill(0, start, start + width);
  }
}

/** Axis of the windows of a batch in a hidden state. */
interface WindowAxis {
  readonly axis: number;
  readonly batchSize: number;
}

/** Axis of the windows: the first of `[B, S, C]` or `[B S, C]`; the second of `[N, B, S, C]` with N residual streams. */
function windowAxis({ facts: { first, second }, probes }: AnalysedModel, hidden: string): number {
  const [dims = [], others = []] = [first.get(hidden)?.dims, second.get(hidden)?.dims];
  const found = dims.findIndex((dim, axis) => dim === probes[0].batchSize && others[axis] === probes[1].batchSize);
  return Math.max(0, found);
}

/** One window of a hidden state. */
function windowOf(hidden: Tensor, row: number, { axis, batchSize }: WindowAxis): Tensor {
  const dims = hidden.dims.with(axis, hidden.dims[axis]! / batchSize);
  const states = hidden.data as Float32Array;
  const data = states.slice(0, states.length / batchSize);
  eachRun({ dims, batchSize, axis, row }, (at, from, length) => data.set(states.subarray(from, from + length), at));
  return { ...hidden, dims, data } as Tensor;
}

/** Visits contiguous runs of a window: the offset in the window, the offset in the batch, and the length. */
function eachRun(
  { dims, batchSize, axis, row }: WindowAxis & { readonly dims: readonly number[]; readonly row: number },
  visit: (at: number, from: number, length: number) => void,
): void {
  const length = dims.slice(axis).reduce((product, dim) => product * dim, 1);
  const count = dims.slice(0, axis).reduce((product, dim) => product * dim, 1);
  for (let run = 0; run < count; run += 1) visit(run * length, (run * batchSize + row) * length, length);
}

function windowAt({ index, firstToken, sequenceLength, tokens }: Batch, row: number): Batch {
  const start = row * sequenceLength;
  return {
    index,
    firstToken: firstToken + start,
    batchSize: 1,
    sequenceLength,
    tokens: tokens.subarray(start, start + sequenceLength),
  };
}
