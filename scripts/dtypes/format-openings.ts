import { DTYPES, type DtypeName } from '../../src/quantisation/dtypes.js';
import { type DtypeRun, MIXED, type Opening, RUNTIMES, type Runtime } from './try-dtype.js';

/** What became of one model, by dtype; those of a folder with all of them are called `q4 by name`. */
export type Runs = Readonly<Record<string, DtypeRun>>;

/** Table of dtypes and runtimes: numbers of opened results, and the largest difference of logits from onnxruntime-node's. */
export function formatOpenings(models: Readonly<Record<string, Runs>>): string {
  const runtimes = Object.keys(RUNTIMES) as Runtime[];
  const rows = [...(Object.keys(DTYPES) as DtypeName[]), MIXED].map((dtype) => {
    const openings = Object.values(models).flatMap((runs) =>
      [runs[dtype], runs[`${dtype} by name`]].flatMap((run) =>
        run !== undefined && 'openings' in run ? run.openings : [],
      ),
    );
    const cells = runtimes.map((runtime) => formatCell(openings.flatMap((found) => found[runtime] ?? [])));
    const name = dtype === MIXED ? '`q8`, `q4` and `q2` in one file (`shrink`)' : `\`${dtype}\``;
    return `| ${name} | ${cells.join(' | ')} |\n`;
  });
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |\n`;
  return line(['dtype', ...Object.values(RUNTIMES)]) + line(['---', ...runtimes.map(() => '---')]) + rows.join('');
}

function formatCell(openings: readonly Opening[]): string {
  if (openings.length === 0) return '';
  const opened = openings.filter(({ outcome }) => outcome === 'opened');
  const gaps = opened.flatMap((opening) => ('gap' in opening && opening.gap !== undefined ? opening.gap : []));
  const apart = gaps.length === 0 ? '' : `, ${Math.max(...gaps).toExponential(0)}`;
  return `${opened.length} of ${openings.length}${apart}`;
}
