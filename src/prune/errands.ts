import { lookUnder, type StageMeter } from '../activations/stage-meter.js';
import type { PassLook } from '../runtime/block-runner.js';

/** A meter on the way, and what becomes of what it saw. */
export interface Errand {
  readonly meter: StageMeter;
  /** Is called once the meter has seen all batches. */
  finish(): void | Promise<void>;
}

/** Errands of stages that are passed, and run later than that. */
export interface Errands {
  /** A look at a stage that runs some errands. */
  under(errands: readonly Errand[], look?: PassLook): PassLook;
  /** Finishes those whose meters have seen all batches. */
  finishDone(): Promise<void>;
}

export function createErrands(batchCount: number, signal: AbortSignal | undefined): Errands {
  let open: { missing: number; readonly errands: readonly Errand[] }[] = [];
  return {
    under(errands, look) {
      const entry = { missing: batchCount, errands };
      open.push(entry);
      const under = lookUnder(
        errands.map(({ meter }) => meter),
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
      for (const errand of done.flatMap(({ errands }) => errands)) {
        signal?.throwIfAborted();
        await errand.finish();
      }
    },
  };
}
