import { readUnder, type StageMeter } from '../../activations/stage-meter.js';
import type { StageReads } from '../../runtime/block-runner.js';

/** A meter, and an action with its results. */
export interface ModuleMeasurement {
  readonly meter: StageMeter;
  /** Called when the meter has read all batches. */
  finish(): void | Promise<void>;
}

/** Tracks measurements of stages, which may run later than `BlockRunner.pass` returns. */
export interface Measurements {
  /** Reads of a stage for measurements, and for another reader. */
  readsFor(measurements: readonly ModuleMeasurement[], others?: StageReads): StageReads;
  /** Finishes those whose meters have read all batches. */
  finishDone(): Promise<void>;
}

export function createMeasurements(batchCount: number, signal: AbortSignal | undefined): Measurements {
  let open: { missing: number; readonly measurements: readonly ModuleMeasurement[] }[] = [];
  return {
    readsFor(measurements, others) {
      const entry = { missing: batchCount, measurements };
      open.push(entry);
      const reads = readUnder(
        measurements.map(({ meter }) => meter),
        others,
      );
      return {
        ...reads,
        async onBatch(batch, values) {
          await reads.onBatch?.(batch, values);
          entry.missing -= 1;
        },
      };
    },
    async finishDone() {
      const done = open.filter(({ missing }) => missing === 0);
      open = open.filter(({ missing }) => missing > 0);
      for (const measurement of done.flatMap(({ measurements }) => measurements)) {
        signal?.throwIfAborted();
        await measurement.finish();
      }
    },
  };
}
