import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Random } from '../../src/linalg/random.js';
import { drawIndex, drawOne, type Mutant, mutateBytes } from './mutate-bytes.js';

/** Position of a journal entry. */
export interface EntryPlace {
  readonly subject: string;
  readonly file: string;
  /** Entries of the same run. */
  readonly files: readonly string[];
  /** Entries of a run with other options. */
  readonly foreign: readonly string[];
}

type EntryMutation = (content: Uint8Array, random: Random, place: EntryPlace) => Uint8Array;

const END_BYTES = 48;

const MUTATIONS: Readonly<Record<string, EntryMutation>> = {
  bytes: (content, random) => mutateBytes(content, random).value,
  flip(content, random) {
    const value = Uint8Array.from(content);
    if (value.length > 0) value[drawIndex(random, value.length)]! ^= 1 << drawIndex(random, 8);
    return value;
  },
  truncated: (content, random) =>
    content.slice(0, drawOne(random, [0, content.length - 1, drawIndex(random, content.length + 1)])),
  /** As after a power failure that saved a file's size, but not its content. */
  zeros: (content, random) => Uint8Array.from(content).fill(0, drawIndex(random, content.length + 1)),
  emptyEntry: (content) => content.slice(-END_BYTES),
  twice: (content) => Buffer.concat([content, content]),
  sibling: (_, random, { subject, files }) => readFileSync(join(subject, drawOne(random, files))),
  foreign: (content, random, { subject, foreign }) =>
    foreign.length === 0 ? content : readFileSync(join(subject, drawOne(random, foreign))),
  /** The entry of the same name. */
  foreignNamesake(content, _, { subject, file, foreign }) {
    const name = file.slice(file.lastIndexOf('/'));
    const found = foreign.find((other) => other.endsWith(name));
    return found === undefined ? content : readFileSync(join(subject, found));
  },
};

/** Damages an entry of a journal, or replaces it by another valid one; in one of three cases two entries. */
export function mutateEntry(content: Uint8Array, random: Random, place: EntryPlace): Mutant<Uint8Array> {
  const name = drawOne(random, Object.keys(MUTATIONS));
  const value = MUTATIONS[name]!(content, random, place);
  if (random() >= 1 / 3) return { value, what: name };
  const [second, other] = [drawOne(random, Object.keys(MUTATIONS)), drawOne(random, place.files)];
  if (other === place.file) return { value, what: name };
  const changed = MUTATIONS[second]!(readFileSync(join(place.subject, other)), random, { ...place, file: other });
  return { value, what: `${name}; ${second} of ${other}`, also: new Map([[other, changed]]) };
}
