import { OptionError } from '../errors.js';
import type { ByteSink } from '../onnx/byte-source.js';
import { formatJson } from '../report/format-json.js';
import { formatReportPage } from '../report/format-report-page.js';
import type { PruneReport } from '../report/report-schema.js';
import { withoutPaths } from '../report/without-paths.js';
import type { Files } from '../runtime/platform.js';
import { hasSchema, MAX_REPORT_BYTES } from './read-json.js';

/** Name of reports next to their model, without extensions. */
export const REPORT_NAME = 'fang-prune-report';

/** Path of a report without extension. */
export interface ReportPath {
  /** Folder, absolute; undefined = the pruned model's. */
  readonly folder?: string | undefined;
  readonly name: string;
}

/**
 * Resolves the path of a report.
 * @param choice A path ending in `.json`; `true` or undefined = next to the pruned model; `false` = nowhere.
 * @throws OptionError for anything else.
 */
export function resolveReportPath(files: Files, choice: string | boolean | undefined): ReportPath | undefined {
  if (choice === false) return undefined;
  if (choice === undefined || choice === true) return { name: REPORT_NAME };
  if (typeof choice !== 'string' || !choice.endsWith('.json')) {
    throw new OptionError(`report is ${JSON.stringify(choice)}; expected a path ending in .json, true or false`);
  }
  const { folder, name } = files.split(files.resolve(choice));
  return { folder, name: name.slice(0, -'.json'.length) };
}

/**
 * Refuses a path of another file than a report, one that cannot be written, or one in the run's output folder.
 * @throws OptionError
 */
export async function checkReportPath(
  files: Files,
  { out, ...place }: Required<ReportPath> & { readonly out?: string | undefined },
): Promise<void> {
  const { json, page } = reportPaths(files, place);
  if (out !== undefined && files.relative(files.resolve(out), json) !== undefined)
    throw new OptionError(
      `The report ${json} is in the output folder ${out}, which gets one anyway. Leave report out.`,
    );
  for (const path of [json, page]) await files.checkFile(path);
  const exists = (await files.kindOf(json)) !== undefined;
  const isOther = exists
    ? !(await hasSchema(files, json, 'fang-prune-report/', MAX_REPORT_BYTES))
    : (await files.kindOf(page)) !== undefined;
  if (isOther)
    throw new OptionError(
      `${exists ? json : page} exists and is not a report of fang-prune. Choose another place for the report.`,
    );
}

function reportPaths(files: Files, { folder, name }: Required<ReportPath>) {
  return { json: files.resolve(folder!, `${name}.json`), page: files.resolve(folder!, `${name}.html`) };
}

/** Path of a report, and whether it may contain paths of this machine. */
export interface ReportTarget extends Required<ReportPath> {
  /** Default false: only names, see `publicReport`. */
  readonly paths?: boolean | undefined;
}

/** Writes a report as JSON and as a page; existing files are replaced together or not at all. @returns paths written. @throws OptionError */
export async function writeReport(
  files: Files,
  report: PruneReport,
  { paths = false, ...place }: ReportTarget,
): Promise<readonly string[]> {
  const { json, page } = reportPaths(files, place);
  const written = await formatReport(paths ? withoutLeft(report) : publicReport(files, report));
  const texts = { [json]: written.json, [page]: written.page };
  const toWriter = (text: string) => (sink: ByteSink) => sink.write(new TextEncoder().encode(text));
  await files.writeTogether(new Map(Object.entries(texts).map(([path, text]) => [path, toWriter(text)])));
  return Object.keys(texts);
}

/** A report as JSON and as a page. */
export async function formatReport(report: PruneReport): Promise<{ readonly json: string; readonly page: string }> {
  const { loadPageAssets } = await import('../report/page-assets.js');
  return { json: formatJson(report), page: await formatReportPage(report, await loadPageAssets()) };
}

/** A report for publication, without paths of this machine and without the names of files that were not copied. */
export function publicReport(files: Files, report: PruneReport): PruneReport {
  const { model, hub, out } = report;
  const places = [...(hub === undefined ? [model] : []), ...(out === undefined ? [] : [out])];
  return withoutPaths(withoutLeft(report), {
    paths: places.map((path) => files.resolve(path)),
    folders: [files.resolve('.')],
  });
}

function withoutLeft(report: PruneReport): PruneReport {
  if (report.sideFiles === undefined) return report;
  const { copied, leftCount } = report.sideFiles;
  return { ...report, sideFiles: { copied, leftCount } };
}
