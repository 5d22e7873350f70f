import type { Random } from '../../src/linalg/random.js';
import { drawIndex, drawOne, type Mutant, mutateBytes } from './mutate-bytes.js';
import { NASTY_NAMES } from './nasty.js';

/** Deeper than a stack, if every level takes a call. */
const DEPTH = 200_000;

/** JSON texts of unexpected values. */
const NASTY_VALUES: readonly string[] = [
  ...[
    'null',
    'true',
    'false',
    '0',
    '-1',
    '0.5',
    '1e400',
    '-1e308',
    '9007199254740993',
    '4294967296',
    '1e9',
    '[]',
    '{}',
  ],
  ...NASTY_NAMES.map((name) => JSON.stringify(name)),
  '{"__proto__":{"polluted":true}}',
  '{"constructor":{"prototype":{"polluted":true}}}',
  '{"length":4294967295}',
  '{"toString":1,"valueOf":2}',
  '[[[[]]]]',
  // A pattern with exponential backtracking, for tokenizers.
  '"(?:[a-zA-Z]+)+0"',
  '{"type":"Split","pattern":{"Regex":"(?:[a-zA-Z]+)+0"},"behavior":"Isolated","invert":false}',
  '[null,null]',
  `${'['.repeat(DEPTH)}${']'.repeat(DEPTH)}`,
  `${'{"a":'.repeat(DEPTH)}1${'}'.repeat(DEPTH)}`,
  JSON.stringify('9'.repeat(1_000_000)),
  `[${'0,'.repeat(1_000_000)}0]`,
];

/** A container in a parsed document, and a key in it. */
interface Place {
  readonly parent: Record<string, unknown>;
  readonly key: string;
}

/** Descends at random, so that large lists are not chosen more often. */
function drawPlace(root: object, random: Random): Place | undefined {
  let parent = root as Record<string, unknown>;
  for (;;) {
    const keys = Object.keys(parent);
    if (keys.length === 0) return undefined;
    const key = drawOne(random, keys);
    const child = parent[key];
    const isLeaf = typeof child !== 'object' || child === null || Object.keys(child).length === 0;
    if (isLeaf || random() < 0.3) return { parent, key };
    parent = child as Record<string, unknown>;
  }
}

type JsonMutation = (place: Place, random: Random, put: (text: string) => unknown) => void;

const MUTATIONS: Readonly<Record<string, JsonMutation>> = {
  replace({ parent, key }, random, put) {
    parent[key] = put(drawOne(random, NASTY_VALUES));
  },
  remove({ parent, key }) {
    if (Array.isArray(parent)) parent.splice(Number(key), 1);
    else delete parent[key];
  },
  rename({ parent, key }, random) {
    if (Array.isArray(parent)) return;
    const value = parent[key];
    delete parent[key];
    Object.defineProperty(parent, drawOne(random, NASTY_NAMES), {
      value,
      writable: true,
      enumerable: true,
      configurable: true,
    });
  },
  add({ parent }, random, put) {
    const value = put(drawOne(random, NASTY_VALUES));
    const key = drawOne(random, NASTY_NAMES);
    if (Array.isArray(parent)) parent.push(value);
    else Object.defineProperty(parent, key, { value, writable: true, enumerable: true, configurable: true });
  },
  repeat({ parent, key }, random) {
    const value = parent[key];
    if (Array.isArray(parent)) parent.push(...new Array(drawIndex(random, 100)).fill(value));
    else parent[`${key}2`] = value;
  },
  scale({ parent, key }, random) {
    const value = parent[key];
    parent[key] = typeof value === 'number' ? value * drawOne(random, [-1, 0, 0.5, 2, 1e6, 1e15]) : [value];
  },
};

/** Changes a JSON text in one to three places; in one of five cases bytes instead. */
export function mutateJson(text: string, random: Random): Mutant<Uint8Array> {
  const encoder = new TextEncoder();
  if (random() < 0.2) return mutateBytes(encoder.encode(text), random);
  const root: unknown = JSON.parse(text);
  const names: string[] = [];
  const texts = new Map<string, string>();
  const put = (value: string): string => {
    const mark = `mark-${texts.size}-mark`;
    texts.set(mark, value);
    return mark;
  };
  const holder = { root };
  for (let left = 1 + drawIndex(random, 3); left > 0; left--) {
    const isRoot = random() < 0.05 || typeof holder.root !== 'object' || holder.root === null;
    const place = isRoot ? { parent: holder as Record<string, unknown>, key: 'root' } : drawPlace(holder.root!, random);
    if (place === undefined) continue;
    const name = isRoot ? 'replace' : drawOne(random, Object.keys(MUTATIONS));
    MUTATIONS[name]!(place, random, put);
    names.push(`${name} ${place.key.slice(0, 40)}`);
  }
  let mutated = JSON.stringify(holder.root) ?? '';
  for (const [mark, value] of texts) mutated = mutated.replace(JSON.stringify(mark), () => value);
  return { value: encoder.encode(mutated), what: names.join(', ') };
}
