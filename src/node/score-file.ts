import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { OptionError } from '../errors.js';
import {
  checkRuns,
  formatRunsLine,
  formatScoreLines,
  type KeptScore,
  parseScoreLines,
  type ScoredRun,
} from '../evaluation/score-lines.js';
import type { ScoreLog } from '../evaluation/score-log.js';
import { appendToFile } from './append-to-file.js';
import { writing } from './file-folder.js';
import { isMissing, readRegularFile, reason } from './file-source.js';

/** A file that keeps the scores of some runs. */
export interface ScoreFile {
  /** The log of one run, by its position. The scores are of the run's kind. */
  logOf<T extends { readonly index: number }>(run: number): ScoreLog<T>;
}

/**
 * Opens a file of scores, or makes it. Scores go to the disk batch by batch; a line that was cut off is written again.
 *
 * @throws OptionError when the file keeps other runs' scores or is no score file, and when it cannot be read or written.
 */
export async function openScoreFile(path: string, runs: readonly ScoredRun[]): Promise<ScoreFile> {
  const content = await readRegularFile(path).catch((cause) => {
    if (isMissing(cause)) return Buffer.alloc(0);
    throw new OptionError(`Cannot read the scores ${path}: ${reason(cause)}.`, { cause });
  });
  const kept = parseScoreLines(content.toString('utf8'), path);
  if (kept === undefined && content.byteLength > 0) {
    throw new OptionError(`${path} does not begin like a file of scores; name another file`);
  }
  if (kept !== undefined) checkRuns(kept.runs, runs, path);
  let fileBytes = content.byteLength;
  const put = async (text: string, start: number) => {
    fileBytes = await writing(path, () => appendToFile(path, { text, start, expectedBytes: fileBytes }));
  };
  if (kept === undefined) {
    await writing(path, () => mkdir(dirname(path), { recursive: true }));
    await put(formatRunsLine(runs), 0);
  } else await put('', kept.wholeBytes);
  return {
    logOf<T extends { readonly index: number }>(run: number): ScoreLog<T> {
      return {
        known: (kept?.scores[run] ?? new Map<number, KeptScore>()) as ReadonlyMap<number, unknown> as ReadonlyMap<
          number,
          T
        >,
        add: (scores) => put(formatScoreLines(run, scores), fileBytes),
      };
    },
  };
}
