import type { ProgressListener } from '../progress.js';
import type { Work } from './foresee-work.js';

/** Ended when the next stage begins; others come again for every result. */
const ONCE = ['load', 'analyse', 'calibrate', 'generate'];
/** Come once a file that is written. */
const EACH = ['quantise', 'drives', 'save', 'certify', 'quality'];

/** The end is reached when the job says so, and not before. */
const MOST = 0.995;

/**
 * Adds to a job's progress how much of the whole is done.
 * @param work by stage, in the order of the stages
 * @param fileCount how often files are written
 */
export function tellWhole(listener: ProgressListener, work: Work, fileCount: number): ProgressListener {
  const stages = Object.keys(work);
  const sum = Object.values(work).reduce((all, own) => all + own, 0);
  const shares = new Map<string, number>();
  const begun = new Map<string, number>();
  let last = '';
  let whole = 0;
  return (progress) => {
    const { stage, done, total } = progress;
    const share = total > 0 ? done / total : 0;
    if (stage !== last) {
      begun.set(stage, (begun.get(stage) ?? 0) + 1);
      const before = stages.slice(0, Math.max(0, stages.indexOf(stage)));
      for (const ended of before) if (ONCE.includes(ended) || fileCount === 1) shares.set(ended, 1);
    }
    last = stage;
    const own = EACH.includes(stage) ? (begun.get(stage)! - 1 + share) / fileCount : share;
    shares.set(stage, Math.min(1, Math.max(shares.get(stage) ?? 0, own)));
    const reached = stages.reduce((all, name) => all + work[name]! * (shares.get(name) ?? 0), 0);
    whole = Math.min(MOST, Math.max(whole, reached / sum));
    listener({ ...progress, whole });
  };
}
