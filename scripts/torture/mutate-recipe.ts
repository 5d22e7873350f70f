import type { Random } from '../../src/linalg/random.js';
import { drawIndex, drawOne, type Mutant } from './mutate-bytes.js';
import { mutateDocument } from './mutate-text.js';

/** Fields of a recipe that are changed here. */
interface Subject {
  modules: { index: unknown; block: unknown; kind: unknown; keep: unknown[] }[];
  result?: unknown;
  version?: unknown;
}

const NASTY_UNITS: readonly unknown[] = [-1, 0.5, 1e9, 2 ** 31, 2 ** 32, 2 ** 53, null, '1', [1], true, 1e-9];

type RecipeMutation = (subject: Subject, at: number, random: Random) => void;

const MUTATIONS: Readonly<Record<string, RecipeMutation>> = {
  unit({ modules }, at, random) {
    const { keep } = modules[at]!;
    keep[drawIndex(random, keep.length)] = drawOne(random, NASTY_UNITS);
  },
  unitTwice({ modules }, at, random) {
    const { keep } = modules[at]!;
    const place = drawIndex(random, keep.length);
    keep.splice(place, 0, keep[place]);
  },
  unitGone({ modules }, at, random) {
    const { keep } = modules[at]!;
    keep.splice(drawIndex(random, keep.length), 1 + drawIndex(random, 3));
  },
  unitMore({ modules }, at) {
    const { keep } = modules[at]!;
    keep.push(Number(keep.at(-1)) + 1);
  },
  manyUnits({ modules }, at) {
    modules[at]!.keep = Array.from({ length: 1_000_000 }, (_, unit) => unit);
  },
  backwards({ modules }, at) {
    modules[at]!.keep.reverse();
  },
  none({ modules }, at) {
    modules[at]!.keep = [];
  },
  index({ modules }, at, random) {
    modules[at]!.index = drawOne(random, [-1, 0, 1, 0.5, 1e9, '0', null, '__proto__', 'length']);
  },
  block({ modules }, at, random) {
    modules[at]!.block = drawOne(random, [-1, 0, 1, 2, '0', null]);
  },
  kind({ modules }, at, random) {
    modules[at]!.kind = drawOne(random, ['ffn', 'attention', 'heads', '__proto__', null]);
  },
  moduleTwice({ modules }, at) {
    modules.push(modules[at]!);
  },
  moduleGone({ modules }, at) {
    modules.splice(at, 1);
  },
  keepsSwapped({ modules }, at, random) {
    const [one, other] = [modules[at]!, modules[drawIndex(random, modules.length)]!];
    [one.keep, other.keep] = [other.keep, one.keep];
  },
};

/** Changes what a recipe removes; half of them do not say what comes of it, or are of another version, which is not held to it. */
export function mutateRecipe(content: Uint8Array, random: Random): Mutant<Uint8Array> {
  if (random() < 0.3) return mutateDocument(content, random);
  const recipe = JSON.parse(new TextDecoder().decode(content)) as Subject;
  const names: string[] = [];
  for (let left = 1 + drawIndex(random, 2); left > 0 && recipe.modules.length > 0; left--) {
    const name = drawOne(random, Object.keys(MUTATIONS));
    MUTATIONS[name]!(recipe, drawIndex(random, recipe.modules.length), random);
    names.push(name);
  }
  const promise = drawOne(random, ['kept', 'kept', 'gone', 'other version'] as const);
  if (promise === 'gone') delete recipe.result;
  if (promise === 'other version') recipe.version = '0.0.1';
  return { value: new TextEncoder().encode(JSON.stringify(recipe)), what: `${names.join(', ')}; result ${promise}` };
}
