import { OptionError } from '../errors.js';
import {
  checkRuns,
  formatRunsLine,
  formatScoreLines,
  parseScoreLines,
  type SavedScore,
  type ScoredRun,
} from '../evaluation/score-lines.js';
import type { ScoreLog } from '../evaluation/score-log.js';
import type { Files } from '../runtime/platform.js';
import { openLineFile } from './line-file.js';

/** A file that keeps the scores of some runs. */
export interface ScoreFile {
  /** The log of one run, by its position. The scores are of the run's kind. */
  logOf<T extends { readonly index: number }>(run: number): ScoreLog<T>;
}

/**
 * Opens a file of scores, or makes it. Scores go to the disk batch by batch; a line that was cut off is written again.
 *
 * @throws OptionError when the file keeps other runs' scores or is not a score file, and when it cannot be read or written.
 */
export async function openScoreFile(files: Files, path: string, runs: readonly ScoredRun[]): Promise<ScoreFile> {
  const lines = await openLineFile(files, path, 'scores');
  const saved = parseScoreLines(lines.content, path);
  if (saved === undefined && lines.content !== '') {
    throw new OptionError(`${path} does not begin like a file of scores; name another file`);
  }
  if (saved !== undefined) checkRuns(saved.runs, runs, path);
  await lines.start(saved?.completeBytes ?? 0, formatRunsLine(runs));
  return {
    logOf<T extends { readonly index: number }>(run: number): ScoreLog<T> {
      return {
        known: (saved?.scores[run] ?? new Map<number, SavedScore>()) as ReadonlyMap<number, unknown> as ReadonlyMap<
          number,
          T
        >,
        add: (scores) => lines.add(formatScoreLines(run, scores)),
      };
    },
  };
}
