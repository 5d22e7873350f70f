import { readUnder, type StageMeter } from '../../activations/stage-meter.js';
import type { StageReads } from '../../runtime/block-runner.js';

/** A meter on the way, and what becomes of what it saw. */
export interface ModuleMeasurement {
  readonly meter: StageMeter;
  /** Is called once the meter has seen all batches. */
  finish(): void | Promise<void>;
}

/** Measurements of stages that are passed, and run later than that. */
export interface Measurements {
  /** One run of a stage for some measurements. */
  under(measurements: readonly ModuleMeasurement[], look?: StageReads): StageReads;
  /** Finishes those whose meters have seen all batches. */
  finishDone(): Promise<void>;
}

export function createMeasurements(batchCount: number, signal: AbortSignal | undefined): Measurements {
  let open: { missing: number; readonly measurements: readonly ModuleMeasurement[] }[] = [];
  return {
    under(measurements, look) {
      const entry = { missing: batchCount, measurements };
      open.push(entry);
      const under = readUnder(
        measurements.map(({ meter }) => meter),
        look,
      );
      return {
        ...under,
        async onBatch(batch, values) {
          await under.onBatch?.(batch, values);
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
