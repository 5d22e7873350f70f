import { randomBytes } from 'node:crypto';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { OptionError } from '../errors.js';
import { formatJson } from '../report/format-json.js';
import { formatReportPage } from '../report/format-report-page.js';
import type { EnvironmentReport, PruneReport } from '../report/report-schema.js';
import type { Engine } from '../runtime/engine.js';
import { writing } from './file-folder.js';

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
export function resolveReportPlace(choice: string | boolean | undefined): ReportPlace | undefined {
  if (choice === false) return undefined;
  if (choice === undefined || choice === true) return { name: REPORT_NAME };
  if (typeof choice !== 'string' || !choice.endsWith('.json')) {
    throw new OptionError(`report is ${JSON.stringify(choice)}; expected a path ending in .json, true or false`);
  }
  const path = resolve(choice);
  return { folder: dirname(path), name: basename(path, '.json') };
}

/** Writes a report as JSON and as a page; files that exist are replaced at once or not at all. @returns paths written. @throws OptionError */
export async function writeReport(report: PruneReport, folder: string, name: string): Promise<readonly string[]> {
  const { loadPageAssets } = await import('./page-assets.js');
  const files = {
    [join(folder, `${name}.json`)]: formatJson(report),
    [join(folder, `${name}.html`)]: await formatReportPage(report, await loadPageAssets()),
  };
  for (const [path, text] of Object.entries(files)) await replaceFile(path, text);
  return Object.keys(files);
}

/** Writes reports again that have grown since; `places` says where each was written. */
export async function rewriteReports(
  reports: readonly PruneReport[],
  places: readonly { readonly report: ReportPlace | undefined; readonly out: string | undefined }[],
): Promise<void> {
  for (const [at, { report: place, out }] of places.entries()) {
    const folder = place?.folder ?? out;
    if (place !== undefined && folder !== undefined) await writeReport(reports[at]!, folder, place.name);
  }
}

async function replaceFile(path: string, text: string): Promise<void> {
  const partial = `${path}.partial-${randomBytes(4).toString('hex')}`;
  await writing(path, async () => {
    await mkdir(dirname(path), { recursive: true });
    try {
      await writeFile(partial, text);
      await rename(partial, path);
    } finally {
      await rm(partial, { force: true });
    }
  });
}

/** What a report says about this machine, and what graphs ran on. */
export function describeEnvironment(engine: Engine): EnvironmentReport {
  const cpu = cpus()[0]?.model.trim();
  const { version: onnxRuntime, executionProviders = [engine.name] } = engine;
  return {
    runtime: `Node.js ${process.versions.node}`,
    platform: `${process.platform} ${process.arch}`,
    ...(onnxRuntime && { onnxRuntime }),
    executionProvider: executionProviders.join(', '),
    ...(cpu && { cpu }),
  };
}
