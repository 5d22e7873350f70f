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

/** One changed file, made again by its seed. */
export interface Trial {
  /** A row of `KINDS`. */
  readonly kind: string;
  /** Folder with the sound model and what was made of it. */
  readonly subject: string;
  readonly seed: number;
}

/** What came of a trial that its process outlived. */
export interface Outcome {
  /** `fine`, the code of a typed error, `untyped`, or `wrong` where a call ended well with a wrong result. */
  readonly outcome: string;
  /** The error, in full where it is untyped. */
  readonly said?: string;
  readonly file: string;
  /** What was done to the file. */
  readonly what: string;
}

/** Makes a mutant in a folder, which is emptied first. @returns undefined where a subject has no such file */
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

/** In place of what is there, which is a link to the sound file. */
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

/** A copy that costs no bytes; files are replaced in it, never written into. */
function linkFolder(from: string, to: string): void {
  mkdirSync(to, { recursive: true });
  for (const entry of readdirSync(from, { withFileTypes: true })) {
    const [source, target] = [join(from, entry.name), join(to, entry.name)];
    if (entry.isDirectory()) linkFolder(source, target);
    else if (entry.isFile()) linkSync(source, target);
    else cpSync(source, target);
  }
}

/** Makes a mutant and lets the library read it. @returns undefined where a subject has no such file */
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

/** Names of objects' own fields that all objects would have from now on. */
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
