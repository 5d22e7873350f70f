import { releaseTensor, releaseTensors } from '../runtime/tensor-memory.js';
import type { Bundle, SequenceScore } from './bundle.js';
import { gatherPast, type Past } from './cached-feeds.js';
import { checkRowCount, type Decoder, type LogitsTensor, logitRows, NO_PAST, readAllLogits } from './decoder.js';
import type { PlannedBatch, PlannedRow } from './plan-batches.js';
import type { TokenScorer } from './token-scorer.js';

/** Decoder and scorer. */
export interface ScoringParts {
  readonly decoder: Decoder;
  readonly scorer: TokenScorer;
}

/**
 * Runs a planned batch. Rows are padded at their ends, which earlier tokens cannot attend to, so that results do not
 * depend on the attention mask.
 *
 * @param bundles The planned bundles; `members` are indices of it.
 * @returns Scores by member and sequence.
 */
export async function scoreBatch(
  parts: ScoringParts,
  { members, prefixLength, passes }: PlannedBatch,
  bundles: readonly Bundle[],
): Promise<SequenceScore[][]> {
  const batch = members.map((member) => bundles[member]!);
  const past = await readPrefixes(
    parts.decoder,
    batch.map(([first]) => first!.tokens.subarray(0, prefixLength)),
  );
  const scores: SequenceScore[][] = members.map(() => []);
  for (const pass of passes) {
    const found = await scorePass(parts, { pass, batch, past });
    for (const [at, { member, sequence }] of pass.entries()) scores[member]![sequence] = found[at]!;
  }
  releaseTensors(past.tensors);
  return scores;
}

/** A long prefix is read in pieces: logits of every token read are in memory at once. */
const PIECE_LENGTH = 512;

/** Keys and values of prefixes of one length. */
async function readPrefixes(decoder: Decoder, prefixes: readonly Int32Array[]): Promise<Past> {
  const length = prefixes[0]?.length ?? 0;
  // A batch may be limited to one token per run; a single sequence is not.
  const step = prefixes.length === 1 ? PIECE_LENGTH : length;
  let past = NO_PAST;
  while (past.length < length) {
    const before = past;
    const [start, end] = [before.length, Math.min(length, before.length + step)];
    past = await decoder.extend(
      prefixes.map((prefix) => prefix.subarray(start, end)),
      before,
    );
    releaseTensors(before.tensors);
  }
  return past;
}

interface Pass {
  readonly pass: readonly PlannedRow[];
  readonly batch: readonly Bundle[];
  readonly past: Past;
}

async function scorePass({ decoder, scorer }: ScoringParts, { pass, batch, past }: Pass): Promise<SequenceScore[]> {
  const width = pass.at(-1)!.length;
  const sequences = pass.map(({ member, sequence }) => batch[member]![sequence]!);
  const tokens = sequences.map((sequence) => {
    const row = new Int32Array(width);
    row.set(sequence.tokens.subarray(past.length, -1));
    return row;
  });
  const rowsPast = gatherPast(
    past,
    pass.map(({ member }) => member),
    batch.length,
  );
  const logits = await readAllLogits(decoder, tokens, rowsPast);
  checkRowCount(logits.dims[1], width);
  const scores: SequenceScore[] = [];
  for (const [at, { tokens: whole, firstScored }] of sequences.entries()) {
    const start = at * width + firstScored - 1 - past.length;
    const rows = logitRows(logits, start, at * width + pass[at]!.length);
    const targets = whole.subarray(firstScored);
    scores.push({ nll: await scorer.score(rows, targets), isGreedy: isLikeliest(rows, targets) });
  }
  releaseTensor(logits);
  return scores;
}

/**
 * Whether each target has the largest logit of its row; ties go to the first. Stops at the first larger logit.
 * @param logits `[R, V]`.
 * @param targets R token ids.
 */
export function isLikeliest(logits: LogitsTensor, targets: Int32Array): boolean {
  const width = logits.dims.at(-1) ?? 0;
  const { type, data } = logits;
  const valueAt = (at: number) => (type === 'float32' ? data[at]! : orderedInteger(data[at]!));
  return targets.every((target, row) => {
    const start = row * width;
    const own = valueAt(start + target);
    for (let token = 0; token < width; token++) {
      const other = valueAt(start + token);
      if (other > own || (other === own && token < target)) return false;
    }
    return true;
  });
}

/** Integer with the order of a half-precision number: converts sign and magnitude to two's complement. */
function orderedInteger(half: number): number {
  return half & 0x8000 ? -(half & 0x7fff) : half;
}
