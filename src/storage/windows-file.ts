import {
  type ExpectedWindows,
  formatOriginLine,
  formatWindowLine,
  parseWindowLines,
  type WindowsOrigin,
} from '../calibration/window-lines.js';
import { OptionError } from '../errors.js';
import type { WindowStore } from '../evaluation/generate-calibration.js';
import type { Files } from '../runtime/platform.js';
import { openLineFile } from './line-file.js';

/** Name of the file with generated windows, next to a result that was calibrated on them. */
export const WINDOWS_FILE = 'calibration-windows.jsonl';

/**
 * Refuses a new windows file in the run's output folder, which the run replaces at its end.
 * @throws OptionError
 */
export async function checkWindowsPath(files: Files, path: string, output: string): Promise<void> {
  const target = files.resolve(path);
  if (files.relative(files.resolve(output), target) === undefined || (await files.kindOf(target)) !== undefined) return;
  throw new OptionError(
    `calibration.generate.file ${path} is in the output folder, which gets ${WINDOWS_FILE} anyway; choose another place`,
  );
}

/**
 * Opens or creates a file of generated windows. Windows are written batch by batch; an incomplete line is written again.
 *
 * @throws OptionError when the file has the windows of another run, is not a windows file, or cannot be read or written.
 */
export async function openWindowsFile(
  files: Files,
  path: string,
  { vocabularySize, ...origin }: ExpectedWindows,
): Promise<WindowStore> {
  const lines = await openLineFile(files, path, 'windows');
  const { windows, completeBytes } = parseWindowLines(lines.content, { ...origin, vocabularySize }, path);
  await lines.start(completeBytes, formatOriginLine(origin));
  let count = windows.length;
  return {
    saved: windows,
    async append(added) {
      await lines.add(added.map((window, index) => formatWindowLine(window, count + index)).join(''));
      count += added.length;
    },
  };
}

/** Formats an entire windows file. */
export function formatWindowsFile(windows: readonly Int32Array[], origin: WindowsOrigin): string {
  return formatOriginLine(origin) + windows.map(formatWindowLine).join('');
}
