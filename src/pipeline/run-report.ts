import { OptionError } from '../errors.js';
import { REPORT } from '../options/commands.js';
import { checkOptions, type OptionsOf, rowsOf } from '../options/option.js';
import type { REPORT_FILES } from '../options/single-calls.js';
import type { JobControl } from '../progress.js';
import { addMeasurements } from '../report/add-measurements.js';
import { addComparedRuns, type NamedReport } from '../report/compared-runs.js';
import type { PruneReport } from '../report/report-schema.js';
import type { Files, Platform } from '../runtime/platform.js';
import { MAX_REPORT_BYTES, readJsonFile } from '../storage/read-json.js';
import { readReport } from '../storage/read-report.js';
import { checkReportPath, publicReport, REPORT_NAME, resolveReportPath, writeReport } from '../storage/write-report.js';

export interface ReportRequest extends JobControl, OptionsOf<typeof REPORT_FILES> {}

/** An updated report. */
export interface WrittenReport {
  readonly report: PruneReport;
  /** Paths of the JSON file and the page. */
  readonly files: readonly string[];
}

/** Adds measurements and other runs to a report, and writes it with its page. */
export async function runReport({ files }: Platform, request: ReportRequest): Promise<WrittenReport> {
  checkOptions(request, rowsOf(REPORT));
  const { report: given, add = [], beside = [], out, onProgress, signal } = request;
  const total = 2 + add.length + beside.length;
  let done = 0;
  const step = (detail: string) => {
    signal?.throwIfAborted();
    onProgress?.({ stage: 'rebuild', done: done++, total, detail });
  };
  step(given);
  const path = await locateReport(files, given);
  let report = await requireReport(files, path);
  for (const [at, given] of add.entries()) {
    const place = typeof given === 'string' ? given : `add[${at}]`;
    step(place);
    const measured =
      typeof given === 'string' ? await readJsonFile(files, files.resolve(given), MAX_REPORT_BYTES) : given;
    if (measured === undefined) throw new OptionError(`There is no file ${place} to add to the report.`);
    report = addMeasurements(report, measured, place);
  }
  const others: NamedReport[] = [];
  for (const name of beside) {
    step(name);
    others.push({ name, report: await requireReport(files, await locateReport(files, name)) });
  }
  if (others.length > 0) report = addComparedRuns({ name: given, report }, others);
  const place = resolveReportPath(files, out ?? path);
  const { folder = files.split(path).folder, name = REPORT_NAME } = place ?? {};
  step(name);
  if (out !== undefined) await checkReportPath(files, { folder, name });
  const written = publicReport(files, report);
  return { report: written, files: await writeReport(files, written, { folder, name }) };
}

async function locateReport(files: Files, given: string): Promise<string> {
  const path = files.resolve(given);
  if ((await files.kindOf(path)) === 'folder') return files.resolve(path, `${REPORT_NAME}.json`);
  return path.replace(/\.html$/, '.json');
}

async function requireReport(files: Files, path: string): Promise<PruneReport> {
  const found = await readReport(files, path);
  if (found === undefined) throw new OptionError(`There is no report at ${path}; prune writes one next to its result.`);
  return found;
}
