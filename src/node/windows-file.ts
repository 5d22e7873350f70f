import { mkdir } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import {
  formatOriginLine,
  formatWindowLine,
  parseWindowLines,
  type WindowsOrigin,
} from '../calibration/window-lines.js';
import { OptionError } from '../errors.js';
import type { WindowStore } from '../evaluation/generate-calibration.js';
import { appendToFile } from './append-to-file.js';
import { contains, exists } from './check-output.js';
import { writing } from './file-folder.js';
import { isMissing, readRegularFile, reason } from './file-source.js';

/** Name of the windows a model wrote, beside a result that was calibrated on them. */
export const WINDOWS_FILE = 'calibration-windows.jsonl';

/**
 * Refuses a new windows file in the folder that a run is to make: it would be in the way when the folder is complete.
 * @throws OptionError
 */
export async function checkWindowsPlace(path: string, output: string): Promise<void> {
  if (!contains(resolve(output), resolve(path)) || (await exists(path))) return;
  throw new OptionError(
    `calibration.generate.file ${path} lies in the output folder, which gets ${WINDOWS_FILE} anyway; choose another place`,
  );
}

/**
 * Opens a file that keeps generated windows, or makes it. Windows go to the disk batch by batch; a line that was cut off
 * is written again.
 *
 * @throws OptionError when the file holds another run's windows or is no windows file, and when it cannot be read or written.
 */
export async function openWindowsFile(path: string, origin: WindowsOrigin): Promise<WindowStore> {
  const content = await readRegularFile(path).catch((cause) => {
    if (isMissing(cause)) return Buffer.alloc(0);
    throw new OptionError(`Cannot read the windows ${path}: ${reason(cause)}.`, { cause });
  });
  const { windows, wholeBytes } = parseWindowLines(content.toString('utf8'), origin, path);
  let fileBytes = content.byteLength;
  let count = windows.length;
  const put = async (text: string, start: number) => {
    fileBytes = await writing(path, () => appendToFile(path, { text, start, expectedBytes: fileBytes }));
  };
  if (wholeBytes === 0) {
    await writing(path, () => mkdir(dirname(path), { recursive: true }));
    await put(formatOriginLine(origin), 0);
  } else await put('', wholeBytes);
  return {
    kept: windows,
    async append(added) {
      await put(added.map((window, index) => formatWindowLine(window, count + index)).join(''), fileBytes);
      count += added.length;
    },
  };
}

/** A whole windows file as text. */
export function formatWindowsFile(windows: readonly Int32Array[], origin: WindowsOrigin): string {
  return formatOriginLine(origin) + windows.map(formatWindowLine).join('');
}
