import { OptionError } from '../errors.js';
import type { ResolvedCalibration } from '../options.js';
import type { Files } from '../runtime/platform.js';
import { checkPairPaths } from '../storage/json-with-tensors.js';
import type { ModelFolder } from '../storage/model-folder.js';
import { checkWindowsPath } from '../storage/windows-file.js';
import { checkReportPath } from '../storage/write-report.js';
import type { ResultPaths } from './write-result.js';

export interface OutputPathOptions {
  readonly force: boolean;
  /** An interrupted run is resumed, and may have written some of the files. Default false. */
  readonly resuming?: boolean | undefined;
  readonly calibration: ResolvedCalibration | undefined;
}

/** Checks in advance that the results can be written. @throws OptionError */
export async function checkOutputPaths(
  { platform: { files }, root }: ModelFolder,
  results: readonly ResultPaths[],
  { force, resuming = false, calibration }: OutputPathOptions,
): Promise<void> {
  const windowsFile = calibration?.generate?.file;
  for (const { out, recipe, report, isRepeated } of results) {
    const replaces = force || isRepeated === true;
    if (recipe !== undefined) await checkPairPaths(files, recipe, { out, force: replaces, resuming });
    if (report?.folder !== undefined) {
      if (recipe?.json === files.resolve(report.folder, `${report.name}.json`))
        throw new OptionError(
          `report and recipe have the same path, ${recipe.json}; choose another path for one of them`,
        );
      await checkReportPath(files, { ...report, folder: report.folder, out });
    }
    if (out === undefined) continue;
    await files.checkOutput({ output: out, source: root, force: replaces });
    if (windowsFile !== undefined) await checkWindowsPath(files, windowsFile, out);
  }
  await checkCalibrationFiles(files, calibration);
}

/** Checks that the text exists and that generated windows can be saved. @throws OptionError */
export async function checkCalibrationFiles(
  files: Files,
  { source, generate }: Partial<Pick<ResolvedCalibration, 'source' | 'generate'>> = {},
): Promise<void> {
  if (generate?.file !== undefined) await files.checkFile(files.resolve(generate.file));
  const text = Object(source).file as unknown;
  if (typeof text !== 'string') return;
  const kind = await files.kindOf(files.resolve(text));
  if (kind !== 'file')
    throw new OptionError(
      `Cannot read the text ${text}: ${kind === undefined ? 'there is no such file' : 'it is a folder'}.`,
    );
}

/**
 * Checks the free disk space for results, and for the scratch files of the run next to the first one. Pruning removes
 * at most its sparsity from a file, so a result needs at least the rest.
 * @param denseBytes of the model and its external data
 * @param scratchBytes see `estimateScratch`
 * @throws OptionError with the needed and the free bytes.
 */
export async function checkFreeSpace(
  { platform: { files }, root }: ModelFolder,
  results: readonly Pick<ResultPaths, 'out' | 'sparsity' | 'targetBytes' | 'isRepeated'>[],
  {
    force,
    denseBytes,
    scratchBytes = 0,
  }: { readonly force: boolean; readonly denseBytes: number; readonly scratchBytes?: number | undefined },
): Promise<void> {
  let byteLength = scratchBytes;
  for (const { out, sparsity, targetBytes, isRepeated } of results) {
    byteLength +=
      targetBytes === undefined ? Math.ceil(denseBytes * (1 - sparsity)) : Math.min(denseBytes, targetBytes);
    const replaces = force || isRepeated === true;
    if (out !== undefined) await files.checkOutput({ output: out, source: root, force: replaces, byteLength });
  }
}
