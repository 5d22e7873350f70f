import { cpSync, linkSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createRandom } from '../../src/linalg/random.js';
import { KINDS } from './kinds.js';
import { drawOne } from './mutate-bytes.js';

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
  /** `fine`, the code of a typed error, or `untyped`. */
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
  const { value, what } = mutate(readFileSync(join(subject, file)), random);
  rmSync(folder, { recursive: true, force: true });
  linkFolder(subject, folder);
  rmSync(join(folder, file));
  writeFileSync(join(folder, file), value);
  return { file, what, random };
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
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return isTyped
    ? { outcome: code, said: (error as Error).message.slice(0, 500) }
    : { outcome: 'untyped', said: stack.slice(0, 2000) };
}
