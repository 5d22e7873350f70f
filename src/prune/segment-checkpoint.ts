import { type Journal, readCheckpoint } from '../platform/journal.js';
import type { BlockRunner } from '../runtime/block-runner.js';
import type { ContextPlace, PruneContext } from './prune-context.js';

/** The first part of the entry of where a loop over the segments stands; what its runner saved follows. */
interface Place extends ContextPlace {
  /** Segment that comes next. */
  readonly segment: number;
  /** Segments before it that something came of. */
  readonly kept: readonly number[];
  readonly remarks: readonly string[];
}

const PLACE = 'place';
const entryOf = (segment: number): string => `segment-${segment}`;

/** Keeps what a loop over the segments has done, so that a run that was cut off can resume behind it. */
export interface SegmentCheckpoint {
  /** Segment to resume at; results of those before it were saved. */
  readonly start: number;
  /** Entries of the segments before `start`, in order. */
  added(): AsyncGenerator<unknown>;
  /** Has context and runner stand where they stood. */
  restore(runner: BlockRunner | undefined): Promise<void>;
  /** Takes what came of a segment. */
  add(segment: number, work: SegmentWork): void;
  /** Is called between two segments: writes down where the run stands, when that is due. */
  settle(segment: number, runner: BlockRunner | undefined): Promise<void>;
}

/** Result of a segment. */
export interface SegmentWork {
  /** Roughly. */
  readonly byteLength: number;
  /** As plain data, see `Journal.write`. */
  parts(): Promise<readonly unknown[]>;
}

/** Without a journal nothing is kept. */
export async function openSegmentCheckpoint(context: PruneContext): Promise<SegmentCheckpoint> {
  const { journal } = context.job;
  const place = await readPlace(journal);
  const kept = [...(place?.kept ?? [])];
  let pending: (SegmentWork & { readonly segment: number })[] = [];
  return {
    start: place?.segment ?? 0,
    async *added() {
      for (const segment of place?.kept ?? []) yield* (await journal!.read(entryOf(segment)))!;
    },
    async restore(runner) {
      if (journal === undefined || place === undefined) return;
      context.restore(place);
      await runner?.restore(runnerParts(journal));
    },
    add(segment, work) {
      if (journal !== undefined) pending.push({ segment, ...work });
    },
    async settle(segment, runner) {
      const byteLength = pending.reduce((sum, work) => sum + work.byteLength, runner?.savedBytes ?? 0);
      if (journal === undefined || !journal.shouldCheckpoint(byteLength)) return;
      for (const work of pending) await journal.write(entryOf(work.segment), partsOf(work));
      kept.push(...pending.map((work) => work.segment));
      pending = [];
      const facts = { segment, kept: [...kept], remarks: [...context.remarks], ...context.passed() };
      await journal.write(PLACE, placeParts(facts, runner));
    },
  };
}

/** Undefined where there is none, or something is lost of what came before it. */
async function readPlace(journal: Journal | undefined): Promise<Place | undefined> {
  const place = await readCheckpoint<Place>(journal, PLACE);
  for (const segment of place?.kept ?? []) if (!(await journal!.has(entryOf(segment)))) return undefined;
  return place;
}

/** Made while they are written, so that this counts too. */
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
