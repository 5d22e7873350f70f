import type { BlockSpan } from '../../architecture/layout.js';
import type { OnnxModel } from '../../onnx/onnx-model.js';
import { type Batch, type BlockRunner, createBlockRunner, type SideValues } from '../../runtime/block-runner.js';
import type { TensorStore } from '../../runtime/tensor-store.js';
import type { PruneJob } from '../job.js';

/** Limit of an archive of all blocks' inputs on disk: the larger of these bytes and this fraction of the model. */
const DISK_LIMIT = { bytes: 4 * 2 ** 30, ofModel: 0.5 };

/**
 * Chooses the stride of archived blocks: 1 if the inputs of all fit within the limit, otherwise the smallest stride that fits,
 * or the one that needs the least disk.
 */
export function chooseStride(spanCount: number, stateBytes: number, modelBytes: number): number {
  const limit = Math.max(DISK_LIMIT.bytes, DISK_LIMIT.ofModel * modelBytes);
  const bytesOf = (stride: number) => archivedStates(spanCount, stride) * stateBytes;
  const strides = Array.from({ length: Math.max(1, spanCount) }, (_, at) => at + 1);
  const least = strides.reduce((best, stride) => (bytesOf(stride) < bytesOf(best) ? stride : best), 1);
  return strides.find((stride) => stride <= least && bytesOf(stride) <= limit) ?? least;
}

/** Number of blocks whose hidden states an archive stores at most. */
export const archivedStates = (spanCount: number, stride: number): number =>
  Math.ceil(spanCount / stride) + 1 + (stride - 1);

export interface SparseArchiveRequest {
  readonly job: PruneJob;
  readonly model: OnnxModel;
  readonly spans: readonly BlockSpan[];
  readonly batches: readonly Batch[];
  /** Values of the forward pass besides the hidden states. */
  readonly side: Pick<SideValues, 'save'>;
  readonly stride: number;
}

/**
 * Creates an archive of the inputs of all blocks that stores one of every `stride`, and the last block's output. The others are
 * computed again from the one before, when the first of them is read. Entries are those of `Backpropagation.archive`, to be
 * read from the last block to the first.
 */
export async function createSparseArchive(request: SparseArchiveRequest): Promise<TensorStore> {
  const { job, spans, batches, stride } = request;
  const windowCount = batches.reduce((sum, { batchSize }) => sum + batchSize, 0);
  const stored = await job.createStore(windowCount, Math.ceil(spans.length / stride) + 1);
  if (stride === 1) return stored;
  const between = await job.createStore(windowCount, stride - 1);
  /** Block from whose input the states in `between` were computed. */
  let filledFrom = -1;
  const placeOf = (entry: number) => ({ span: Math.floor(entry / batches.length), position: entry % batches.length });
  const isStored = (span: number) => span === spans.length || span % stride === 0;
  const storedEntry = (span: number, position: number) => Math.ceil(span / stride) * batches.length + position;
  const betweenEntry = (span: number, position: number) => ((span % stride) - 1) * batches.length + position;

  async function fill(from: number): Promise<void> {
    const runner = await startAt(request, from, (position) => stored.get(storedEntry(from, position)));
    try {
      for (let span = from; span + 1 < Math.min(from + stride, spans.length); span += 1)
        await advanceSpan(request, { runner, span }, (position, state) =>
          between.put(betweenEntry(span + 1, position), state),
        );
    } finally {
      await runner.dispose();
    }
    filledFrom = from;
  }

  return {
    async get(entry) {
      const { span, position } = placeOf(entry);
      if (isStored(span)) return stored.get(storedEntry(span, position));
      const from = span - (span % stride);
      if (filledFrom !== from) await fill(from);
      return between.get(betweenEntry(span, position));
    },
    async put(entry, tensor) {
      const { span, position } = placeOf(entry);
      if (isStored(span)) await stored.put(storedEntry(span, position), tensor);
    },
    dispose: async () => void (await Promise.all([stored.dispose(), between.dispose()])),
  };
}

type GetState = (position: number) => ReturnType<TensorStore['get']>;

/** Creates a runner at the input of a block. */
async function startAt(
  { job, model, spans, batches, side }: SparseArchiveRequest,
  at: number,
  getState: GetState,
): Promise<BlockRunner> {
  const { engine, analysed, options } = job;
  const runner = createBlockRunner({
    engine,
    model,
    batches,
    isFixed: true,
    signal: options.signal,
    cuts: analysed.detected.partition.cuts,
    facts: analysed.facts,
    tokenInput: analysed.tokenInput,
    packsWeights: job.firstWindow !== undefined,
    states: await job.createStore(batches.reduce((sum, { batchSize }) => sum + batchSize, 0)),
  });
  async function* saved(): AsyncGenerator<unknown> {
    const none: ReadonlySet<string> = new Set();
    const held = { wanted: none, complete: none, left: none, narrowed: new Map() };
    yield { from: spans[at]!.first, passedCount: 0, side: side.save(), held };
    // The runner has an entry per batch index; batches without a backward pass have no state.
    const positions = new Map(batches.map(({ index }, position) => [index, position]));
    for (let index = 0; index <= Math.max(-1, ...positions.keys()); index += 1) {
      const position = positions.get(index);
      yield { state: position === undefined ? undefined : await getState(position), held: new Map() };
    }
  }
  await runner.restore(saved());
  return runner;
}

interface SpanStep {
  readonly runner: BlockRunner;
  readonly span: number;
}

/** Runs a block. @param put Receives the block's output by the position of the batch. */
async function advanceSpan(
  { job, spans, batches }: SparseArchiveRequest,
  { runner, span }: SpanStep,
  put: (position: number, state: Parameters<TensorStore['put']>[1]) => Promise<void>,
): Promise<void> {
  const { first, last } = spans[span]!;
  const output = job.analysed.detected.partition.cuts[last]!;
  for (let segment = first; segment < last; segment += 1) await runner.pass();
  await runner.advance({
    fetches: [output],
    onBatch: (batch, values) => put(batches.indexOf(batch), values[output]!),
  });
}
