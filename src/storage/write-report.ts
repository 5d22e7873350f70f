import { OptionError } from '../errors.js';
import type { ByteSink } from '../onnx/byte-source.js';
import type { Files } from '../platform/platform.js';
import { formatJson } from '../report/format-json.js';
import { formatReportPage } from '../report/format-report-page.js';
import type { PruneReport } from '../report/report-schema.js';

/** What reports are called beside the model they tell of, without their endings. */
export const REPORT_NAME = 'fang-prune-report';

/** Where a report goes, without its ending. */
export interface ReportPlace {
  /** Folder, absolute; undefined = the pruned model's. */
  readonly folder?: string | undefined;
  readonly name: string;
}

/**
 * Reads where a report shall go.
 * @param choice A path ending in `.json`; `true` or undefined = beside the pruned model; `false` = nowhere.
 * @throws OptionError for anything else.
 */
export function resolveReportPlace(files: Files, choice: string | boolean | undefined): ReportPlace | undefined {
  if (choice === false) return undefined;
  if (choice === undefined || choice === true) return { name: REPORT_NAME };
  if (typeof choice !== 'string' || !choice.endsWith('.json')) {
    throw new OptionError(`report is ${JSON.stringify(choice)}; expected a path ending in .json, true or false`);
  }
  const { folder, name } = files.split(files.resolve(choice));
  return { folder, name: name.slice(0, -'.json'.length) };
}

/** Writes a report as JSON and as a page; files that exist are replaced at once or not at all. @returns paths written. @throws OptionError */
export async function writeReport(
  files: Files,
  report: PruneReport,
  { folder, name }: Required<ReportPlace>,
): Promise<readonly string[]> {
  const { loadPageAssets } = await import('../report/page-assets.js');
  const texts = {
    [files.resolve(folder!, `${name}.json`)]: formatJson(report),
    [files.resolve(folder!, `${name}.html`)]: await formatReportPage(report, await loadPageAssets()),
  };
  const toWriter = (text: string) => (sink: ByteSink) => sink.write(new TextEncoder().encode(text));
  await files.writeTogether(new Map(Object.entries(texts).map(([path, text]) => [path, toWriter(text)])));
  return Object.keys(texts);
}
