import {
  closeSync,
  cpSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { createRandom } from '../../src/linalg/random.js';
import { WrongResult } from './calls.js';
import { KINDS } from './kinds.js';
import { drawOne, type FileContent } from './mutate-bytes.js';

/** One changed file, reproducible by its seed. */
export interface Trial {
  /** A row of `KINDS`. */
  readonly kind: string;
  /** Folder with the valid model and the files derived from it. */
  readonly subject: string;
  readonly seed: number;
}

/** Outcome of a trial whose process survived. */
export interface Outcome {
  /** `fine`, the code of a typed error, `untyped`, or `wrong` for a call that succeeded with a wrong result. */
  readonly outcome: string;
  /** The error; complete if it is untyped. */
  readonly said?: string;
  readonly file: string;
  /** Change of the file. */
  readonly what: string;
}

/** Creates a mutant in a folder, which is emptied first. @returns undefined if a subject has no such file */
export function makeMutant({ kind, subject, seed }: Trial, folder: string) {
  const random = createRandom(seed);
  const { files, mutate } = KINDS[kind]!;
  const found = files(subject);
  if (found.length === 0) return undefined;
  const file = drawOne(random, found);
  const { value, what, also = [] } = mutate(readFileSync(join(subject, file)), random, { subject, file, files: found });
  rmSync(folder, { recursive: true, force: true });
  linkFolder(subject, folder);
  for (const [name, content] of [[file, value] as const, ...also]) putFile(join(folder, name), content);
  return { file, what, random };
}

/** Replaces a link to the valid file. */
function putFile(path: string, content: FileContent): void {
  rmSync(path, { force: true });
  if (content instanceof Uint8Array) writeFileSync(path, content);
  else if ('link' in content) symlinkSync(content.link, path);
  else {
    const file = openSync(path, 'w');
    ftruncateSync(file, content.byteLength);
    for (const { at, bytes } of content.parts) writeSync(file, bytes, 0, bytes.length, at);
    closeSync(file);
  }
}

/** A copy of links; files in it are replaced, never written to. */
function linkFolder(from: string, to: string): void {
  mkdirSync(to, { recursive: true });
  for (const entry of readdirSync(from, { withFileTypes: true })) {
    const [source, target] = [join(from, entry.name), join(to, entry.name)];
    if (entry.isDirectory()) linkFolder(source, target);
    else if (entry.isFile()) linkSync(source, target);
    else cpSync(source, target);
  }
}

/** Creates a mutant and reads it with the library. @returns undefined if a subject has no such file */
export async function tryMutant(trial: Trial, folder: string): Promise<Outcome | undefined> {
  const mutant = makeMutant(trial, folder);
  if (mutant === undefined) return undefined;
  const { file, what, random } = mutant;
  try {
    await KINDS[trial.kind]!.run(folder, random);
    return { outcome: isPolluted() ? 'untyped' : 'fine', file, what };
  } catch (error) {
    return { ...judge(error), file, what };
  }
}

/** Whether a mutant added properties to the prototype of all objects. */
const isPolluted = (): boolean => 'polluted' in {} || Object.keys(Object.prototype).length > 0;

function judge(error: unknown): { readonly outcome: string; readonly said: string } {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  const isTyped = /^ERR_(OPTION|MODEL_FORMAT|UNSUPPORTED_MODEL|NUMERICAL|ENGINE)$/.test(code) && !isPolluted();
  if (error instanceof WrongResult) return { outcome: 'wrong', said: error.message };
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return isTyped
    ? { outcome: code, said: (error as Error).message.slice(0, 500) }
    : { outcome: 'untyped', said: stack.slice(0, 2000) };
}
