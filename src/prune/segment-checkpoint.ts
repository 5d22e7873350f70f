import type { BlockRunner } from '../runtime/block-runner.js';
import { type Journal, readCheckpoint } from '../runtime/journal.js';
import type { ContextPlace, PruneContext } from './prune-context.js';

/** First part of the entry with the position of a loop over the segments; the runner's state follows. */
interface Place extends ContextPlace {
  /** Next segment. */
  readonly segment: number;
  /** Segments before it with saved results. */
  readonly saved: readonly number[];
  readonly remarks: readonly string[];
}

const PLACE = 'place';
const entryOf = (segment: number): string => `segment-${segment}`;

/** Checkpoints of a loop over the segments, so that an interrupted run can resume. */
export interface SegmentCheckpoint {
  /** Segment to resume at; results of those before it were saved. */
  readonly start: number;
  /** Entries of the segments before `start`, in order. */
  added(): AsyncGenerator<unknown>;
  /** Restores context and runner. */
  restore(runner: BlockRunner | undefined): Promise<void>;
  /** Adds the result of a segment, which the next checkpoint saves. */
  add(segment: number, work: SegmentWork): void;
  /** Called between two segments; saves a checkpoint from time to time. */
  saveIfNeeded(segment: number, runner: BlockRunner | undefined): Promise<void>;
}

/** Result of a segment. */
export interface SegmentWork {
  /** Approximate. */
  readonly byteLength: number;
  /** As plain data, see `Journal.write`. */
  parts(): Promise<readonly unknown[]>;
}

/** Opens the checkpoints of a context's journal; without a journal there are none. */
export async function openSegmentCheckpoint(context: PruneContext): Promise<SegmentCheckpoint> {
  const { journal } = context.job;
  const place = await readPlace(journal);
  const saved = [...(place?.saved ?? [])];
  let pending: (SegmentWork & { readonly segment: number })[] = [];
  return {
    start: place?.segment ?? 0,
    async *added() {
      for (const segment of place?.saved ?? []) yield* (await journal!.read(entryOf(segment)))!;
    },
    async restore(runner) {
      if (journal === undefined || place === undefined) return;
      context.restore(place);
      await runner?.restore(runnerParts(journal));
    },
    add(segment, work) {
      if (journal !== undefined) pending.push({ segment, ...work });
    },
    async saveIfNeeded(segment, runner) {
      const byteLength = pending.reduce((sum, work) => sum + work.byteLength, runner?.savedBytes ?? 0);
      if (journal === undefined || !journal.shouldCheckpoint(byteLength)) return;
      for (const work of pending) await journal.write(entryOf(work.segment), partsOf(work));
      saved.push(...pending.map((work) => work.segment));
      pending = [];
      const facts = { segment, saved: [...saved], remarks: [...context.remarks], ...context.place() };
      await journal.write(PLACE, placeParts(facts, runner));
    },
  };
}

/** Undefined if there is none, or an earlier segment's entry is missing. */
async function readPlace(journal: Journal | undefined): Promise<Place | undefined> {
  const place = await readCheckpoint<Place>(journal, PLACE);
  for (const segment of place?.saved ?? []) if (!(await journal!.has(entryOf(segment)))) return undefined;
  return place;
}

/** Computes the parts while they are written, so that the journal's time includes it. */
async function* partsOf(work: SegmentWork): AsyncGenerator<unknown> {
  yield* await work.parts();
}

async function* placeParts(place: Place, runner: BlockRunner | undefined): AsyncGenerator<unknown> {
  yield place;
  if (runner !== undefined) yield* runner.save();
}

async function* runnerParts(journal: Journal): AsyncGenerator<unknown> {
  let isFirst = true;
  for await (const part of (await journal.read(PLACE)) ?? []) {
    if (!isFirst) yield part;
    isFirst = false;
  }
}
