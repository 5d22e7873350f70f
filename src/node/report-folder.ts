import { stat } from 'node:fs/promises';
import { dirname, extname, join, resolve } from 'node:path';
import { OptionError } from '../errors.js';
import { addMeasurements } from '../report/add-measurements.js';
import { checkReport } from '../report/check-report.js';
import type { PruneReport } from '../report/report-schema.js';
import { readJsonFile } from './read-json.js';
import { REPORT_NAME, resolveReportPlace, writeReport } from './write-report.js';

export interface ReportRequest {
  /** A report (`.json`), or the pruned model's folder that it lies in. */
  readonly report: string;
  /** JSON files of measurements to add: what `fang-prune eval`, `bench` and `bias` printed with `--json`. */
  readonly add?: readonly string[] | undefined;
  /** Where the result goes, ending in `.json`; its page lies beside it. Default: in place. */
  readonly out?: string | undefined;
}

/** A report that was written anew. */
export interface WrittenReport {
  readonly report: PruneReport;
  /** Paths of the JSON file and the page. */
  readonly files: readonly string[];
}

/**
 * Draws a report's page again, with measurements added to it.
 * @throws OptionError when there is no report, or a file holds no measurements of its models; ModelFormatError for files
 *   that are no JSON, or a report of another version.
 * @example
 * await rebuildReport({ report: 'smaller', add: ['eval.json'] });
 */
export async function rebuildReport({ report: given, add = [], out }: ReportRequest): Promise<WrittenReport> {
  const path = await locateReport(given);
  let report = await readReport(path);
  for (const file of add) {
    const measured = await readJsonFile(file);
    if (measured === undefined) throw new OptionError(`There is no file ${file} to add to the report.`);
    report = addMeasurements(report, measured, file);
  }
  const place = resolveReportPlace(out ?? path);
  return { report, files: await writeReport(report, place?.folder ?? dirname(path), place?.name ?? REPORT_NAME) };
}

async function locateReport(given: string): Promise<string> {
  const path = resolve(given);
  const isFolder = await stat(path).then(
    (stats) => stats.isDirectory(),
    () => false,
  );
  return isFolder
    ? join(path, `${REPORT_NAME}.json`)
    : extname(path) === '.html'
      ? path.replace(/html$/, 'json')
      : path;
}

async function readReport(path: string): Promise<PruneReport> {
  const found = await readJsonFile(path);
  if (found === undefined) throw new OptionError(`There is no report at ${path}; prune writes one beside its result.`);
  return checkReport(found, path);
}
