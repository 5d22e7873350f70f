import { sha256 } from '../calibration/sha256.js';
import { OptionError } from '../errors.js';
import { refusal } from '../options/option.js';
import { checkMeasuring } from '../options/texts.js';
import type { Platform } from '../runtime/platform.js';
import { readTaskFile, type TaskFile } from '../storage/task-file.js';
import type { EvaluateRequest } from './evaluate-request.js';
import type { NamedText } from './measurements.js';
import { readTexts } from './read-texts.js';

interface Sources {
  readonly texts: readonly NamedText[];
  readonly tasks: readonly TaskFile[];
}

/** Reads texts and task files. @throws OptionError if there is nothing to measure */
export async function readSources(platform: Platform, request: EvaluateRequest): Promise<Sources> {
  const { models, texts = [], tasks = [], reference, limit } = request;
  if (models.length === 0) throw new OptionError('there is no model to evaluate; name at least one');
  if (texts.length === 0 && tasks.length === 0)
    throw new OptionError('there is nothing to measure; give texts, tasks or both');
  if (reference !== undefined && texts.length === 0) {
    throw refusal('reference', 'needs texts to compare the models with it on; give texts, or leave it out');
  }
  checkMeasuring(request);
  const named: NamedText[] = [];
  for (const name of texts) {
    const text = await readTexts(platform.files, name);
    named.push({ name, text, sha256: await sha256(text) });
  }
  const files: TaskFile[] = [];
  for (const file of tasks) files.push(await readTaskFile(platform, file, limit));
  return { texts: named, tasks: files };
}
