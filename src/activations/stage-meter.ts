import type { Batch, BlockRunner } from '../runtime/block-runner.js';
import type { StageExtension } from '../runtime/compile-stage.js';
import type { Tensors } from '../runtime/engine.js';

/** Something measured of a stage while it runs: nodes put behind it, and what becomes of their results. */
export interface StageMeter {
  /** Values of the stage that the nodes read. */
  readonly reads: readonly string[];
  readonly extension: StageExtension;
  /** Feeds of the extension's own inputs. */
  feeds(batch: Batch): Tensors;
  /** Takes up the extension's results for one batch. */
  add(batch: Batch, values: Tensors): void;
}

/** Runs the current stage of a runner over all batches under some meters. */
export async function runMeters(
  runner: BlockRunner,
  meters: readonly StageMeter[],
  onBatch?: (batch: Batch) => void,
): Promise<void> {
  const run = {
    fetches: [],
    reads: meters.flatMap(({ reads }) => reads),
    extension: joinExtensions(meters.map(({ extension }) => extension)),
    extensionFeeds: (batch: Batch) => joinFeeds(meters, batch),
  };
  for await (const { batch, values } of runner.observe(run)) {
    for (const meter of meters) meter.add(batch, values);
    onBatch?.(batch);
  }
}

export function joinExtensions(parts: readonly StageExtension[]): StageExtension {
  return {
    nodes: parts.flatMap(({ nodes }) => nodes),
    initializers: parts.flatMap(({ initializers }) => initializers),
    inputs: parts.flatMap(({ inputs }) => inputs),
    outputs: parts.flatMap(({ outputs }) => outputs),
    domains: [...new Set(parts.flatMap(({ domains = [] }) => domains))],
  };
}

export const joinFeeds = (meters: readonly StageMeter[], batch: Batch): Tensors =>
  Object.assign({}, ...meters.map((meter) => meter.feeds(batch)));
