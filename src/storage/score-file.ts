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

/** A file with the scores of several runs. */
export interface ScoreFile {
  /** The log of one run, by its position. The scores are of the run's kind. */
  logOf<T extends { readonly index: number }>(run: number): ScoreLog<T>;
}

/**
 * Opens or creates a score file. Scores are written batch by batch; an incomplete line is written again.
 *
 * @throws OptionError when the file has the scores of other runs, is not a score file, or cannot be read or written.
 */
export async function openScoreFile(files: Files, path: string, runs: readonly ScoredRun[]): Promise<ScoreFile> {
  const lines = await openLineFile(files, path, 'scores');
  const saved = parseScoreLines(lines.content, path);
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
