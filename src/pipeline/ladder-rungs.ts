import { refusal } from '../options/option.js';
import type { ReportPath } from '../storage/write-report.js';

/** One result of a ladder. */
export interface Rung {
  readonly sparsity: number;
  /** Sparsity in percent, the name of its folder: `10`, `12.5`. */
  readonly name: string;
}

/** Decimals of a percentage; sparsities that differ only in later ones count as equal. */
const NAME_DECIMALS = 4;

/**
 * Names the rungs of a ladder.
 * @throws OptionError for an invalid or empty list, or repeated sparsities.
 */
export function nameRungs(sparsities: readonly number[]): readonly Rung[] {
  if (!Array.isArray(sparsities) || sparsities.length === 0)
    throw refusal('sparsity', 'of a ladder is not a list of fractions; give at least one, such as [0.1, 0.2, 0.3]');
  const rungs = sparsities.map((sparsity) => ({ sparsity, name: rungName(sparsity) }));
  const repeat = rungs.find(({ name }, at) => rungs.findIndex((rung) => rung.name === name) !== at);
  if (repeat !== undefined) throw refusal('sparsity', `${repeat.sparsity} occurs twice in the ladder; give it once`);
  return rungs;
}

/** Percent, without rounding errors of binary fractions: 0.07 -> `7`. */
function rungName(sparsity: number): string {
  return String(Number((sparsity * 100).toFixed(NAME_DECIMALS)));
}

/** Path of a rung's report: in its folder, or `a-10.json` for `a.json`. */
export function rungReportPath(place: ReportPath | undefined, { name }: Rung): ReportPath | undefined {
  return place?.folder === undefined ? place : { ...place, name: `${place.name}-${name}` };
}

/** The folder of a rung. */
export function rungFolder(out: string, { name }: Rung): string {
  return `${out.replace(/[\\/]+$/, '')}/${name}`;
}

/** A rung's recipe: `a-10.json` of `a.json`, else a folder in the one given. */
export function rungRecipe(path: string, rung: Rung): string {
  return path.endsWith('.json') ? `${path.slice(0, -'.json'.length)}-${rung.name}.json` : rungFolder(path, rung);
}
