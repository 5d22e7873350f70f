import type { Batch, BlockRunner, StageReads, StageRun } from '../runtime/block-runner.js';
import { joinExtensions, type StageExtension } from '../runtime/compile-stage.js';
import type { Tensors } from '../runtime/engine.js';
import { releaseTensors } from '../runtime/tensor-memory.js';

/** A measurement of a stage while it runs: nodes appended to it, and a consumer of their outputs. */
export interface StageMeter {
  /** Values of the stage that the nodes read. */
  readonly reads: readonly string[];
  readonly extension: StageExtension;
  /** Feeds of the extension's own inputs. */
  feeds(batch: Batch): Tensors | Promise<Tensors>;
  /** Adds the extension's results for one batch; they are released afterwards. */
  add(batch: Batch, values: Tensors): void;
}

/** Runs the current stage with meters over all batches. */
export async function runMeters(
  runner: BlockRunner,
  meters: readonly StageMeter[],
  onBatch?: (batch: Batch) => void,
): Promise<void> {
  for await (const { batch, values } of runner.observe({ fetches: [], ...readingOf(meters) })) {
    for (const meter of meters) meter.add(batch, values);
    releaseTensors(values);
    onBatch?.(batch);
  }
}

/** Reads of meters while the runner advances a stage, with further values to fetch. */
export function readUnder(
  meters: readonly StageMeter[],
  { fetches = [], onBatch }: Pick<StageReads, 'fetches' | 'onBatch'> = {},
): StageReads {
  return {
    fetches,
    ...readingOf(meters),
    async onBatch(batch, values) {
      for (const meter of meters) meter.add(batch, values);
      await onBatch?.(batch, values);
    },
  };
}

/** Reads, extension and feeds of meters for a run of a stage. */
function readingOf(meters: readonly StageMeter[]): Omit<StageRun, 'fetches'> {
  return {
    reads: meters.flatMap(({ reads }) => reads),
    extension: joinExtensions(meters.map(({ extension }) => extension)),
    extensionFeeds: (batch) => joinFeeds(meters, batch),
  };
}

export async function joinFeeds(meters: readonly StageMeter[], batch: Batch): Promise<Tensors> {
  return Object.assign({}, ...(await Promise.all(meters.map((meter) => meter.feeds(batch)))));
}
