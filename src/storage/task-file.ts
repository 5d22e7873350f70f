import { readTaskItems, type TaskItem } from '../evaluation/task-items.js';
import type { Platform } from '../runtime/platform.js';
import { hashFiles } from './hash-files.js';
import { readLines } from './read-text.js';

/** The items of a task file, or the first of them. */
export interface TaskFile {
  readonly name: string;
  /** Hash of the entire file. */
  readonly sha256: string;
  readonly items: readonly TaskItem[];
}

/**
 * Reads a task file.
 * @param limit Items to read, from the first, at least 1. Default all.
 * @throws OptionError naming file and line of a malformed item.
 */
export async function readTaskFile(
  platform: Platform,
  path: string,
  limit = Number.POSITIVE_INFINITY,
): Promise<TaskFile> {
  const items: TaskItem[] = [];
  // Not a pipe, since the file is read twice.
  for await (const item of readTaskItems(readLines(platform.files, path, false), path)) {
    items.push(item);
    if (items.length >= limit) break;
  }
  return { name: path, sha256: await hashFiles(platform, [platform.files.resolve(path)]), items };
}
