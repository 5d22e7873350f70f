import type { LadderRequest } from '../node.js';
import { buildLadder, isParetoOptimal, meanPerplexity } from '../report/build-ladder.js';
import { formatPerplexity } from '../report/format-figure.js';
import { formatBytes, formatCount, formatExactPercent, formatPercent } from '../report/format-quantity.js';
import type { PruneReport, RungReport } from '../report/report-schema.js';
import { numbers, words } from '../report/table-columns.js';
import { REPORT_NAME } from '../storage/write-report.js';
import { formatNotes, formatSideFiles } from './format-run.js';
import { formatTable } from './format-table.js';
import { asPath, formatDone } from './next-steps.js';
import type { Colors } from './terminal.js';

/** Results of a ladder. */
export interface LadderResult {
  readonly reports: readonly PruneReport[];
}

/** A ladder as text: a row per rung, the dense model first; then perplexities by text, if several. */
export function formatLadder(
  { reports }: LadderResult,
  colors: Colors,
  { out, report, dryRun }: Partial<Pick<LadderRequest, 'out' | 'report' | 'dryRun'>> = {},
): string {
  const [first] = reports;
  if (first === undefined) return '';
  const ladder = first.ladder ?? buildLadder(reports);
  const texts = ladder[0]?.perplexities?.map(({ text }) => text) ?? [];
  const outs = reports.flatMap((rung) => rung.out ?? []);
  const firstPage = report === undefined || report === true ? `${outs[0]}/${REPORT_NAME}.json` : report;
  const next = ['bench', ...[first.model, ...outs].map(asPath)];
  const remarks = [...new Set(reports.flatMap((report) => report.remarks))];
  return [
    `${colors.bold('Ladder')} of ${first.model} (${first.method}, seed ${first.seed})\n`,
    formatRungs(ladder),
    ...(texts.length > 1 ? [formatTexts(ladder, texts)] : []),
    ...(texts.length > 0 ? [describeProtocol(ladder, texts)] : []),
    ...formatSideFiles(first.sideFiles),
    ...formatNotes(remarks, colors),
    ...(dryRun || out === undefined ? [] : [formatDone({ out, report: firstPage, next }, colors)]),
  ].join('\n');
}

function formatRungs(ladder: readonly RungReport[]): string {
  const points = ladder.map((rung) => ({ bytes: rung.bytes, loss: meanPerplexity(rung) }));
  const measured = points.flatMap(({ bytes, loss }) => (loss === undefined ? [] : [{ bytes, loss }]));
  const columns = ['sparsity', 'parameters', 'bytes', ...(measured.length > 0 ? ['perplexity', 'Pareto'] : [])];
  return formatTable(
    [...words(''), ...numbers(...columns)],
    ladder.map((rung, at) => {
      const { bytes, loss } = points[at]!;
      return [
        nameRung(rung, at),
        formatPercent(rung.achieved),
        formatCount(rung.parameters),
        formatBytes(bytes),
        ...(loss === undefined ? [] : [formatPerplexity(loss), isParetoOptimal({ bytes, loss }, measured) ? '*' : '']),
      ];
    }),
  );
}

function formatTexts(ladder: readonly RungReport[], texts: readonly string[]): string {
  return formatTable(
    [...words('perplexity'), ...numbers(...ladder.map((rung, at) => nameRung(rung, at)))],
    texts.map((text, at) => [
      text,
      ...ladder.map(({ perplexities }) => {
        const measured = perplexities?.[at];
        return measured === undefined ? '' : formatPerplexity(measured.perplexity);
      }),
    ]),
  );
}

const nameRung = ({ out, requested }: RungReport, at: number): string =>
  at === 0 ? 'dense' : (out ?? formatExactPercent(requested));

function describeProtocol([dense]: readonly RungReport[], texts: readonly string[]): string {
  if (dense === undefined || meanPerplexity(dense) === undefined)
    return 'The texts were read in windows of different lengths, so their perplexities have no common mean.\n';
  const source = texts.length === 1 ? texts[0]! : `${texts.length} texts (their geometric mean)`;
  return `Perplexity on ${source}. *: Pareto-optimal.\n`;
}
