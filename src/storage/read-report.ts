import { checkReport } from '../report/check-report.js';
import type { PruneReport } from '../report/report-schema.js';
import type { Files } from '../runtime/platform.js';
import { MAX_REPORT_BYTES, readJsonFile } from './read-json.js';

/** Reads a report; undefined if there is none. @throws ModelFormatError when it is damaged. */
export async function readReport(files: Files, path: string): Promise<PruneReport | undefined> {
  const found = await readJsonFile(files, path, MAX_REPORT_BYTES);
  return found && checkReport(found, path);
}
