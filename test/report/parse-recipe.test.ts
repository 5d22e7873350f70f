import type { PrunableModule } from '../../src/architecture/layout.js';
import { ModelFormatError } from '../../src/errors.js';
import { parseChange, type RecipeContext } from '../../src/report/parse-recipe.js';
import type { Recipe, RecipeModule } from '../../src/report/recipe-schema.js';

const ffn = { index: 0, block: 0, kind: 'ffn', unitCount: 6 };
const attention = { index: 1, block: 0, kind: 'attention', unitCount: 4, groupOfUnit: Int32Array.of(0, 0, 1, 1) };
const experts = { index: 2, block: 1, kind: 'experts', unitCount: 4, leastExperts: 2, neurons: { unitCount: 5 } };
const grouped = { index: 3, block: 2, kind: 'experts', unitCount: 4, groupOfUnit: Int32Array.of(0, 0, 1, 1) };

const parse = (...modules: readonly RecipeModule[]) => {
  const layout = { modules: [ffn, attention, experts, grouped] as unknown as PrunableModule[] };
  const context = {
    analysed: { detected: { layout } },
    tensors: new Map(),
    files: { kind: 'recipe', json: 'recipe.json', tensors: 'recipe.safetensors' },
  } as unknown as RecipeContext;
  return () => parseChange({ modules } as unknown as Recipe, context);
};

const entry = ({ index, block, kind }: { index: number; block: number; kind: string }, given: Partial<RecipeModule>) =>
  ({ index, block, kind, ...given }) as RecipeModule;

it.each<[string, readonly RecipeModule[], RegExp]>([
  ['two entries of one module', [entry(ffn, { keep: [0] }), entry(ffn, { keep: [1] })], /modules\[1\] .* listed twice/],
  ['a module of another kind', [{ ...entry(ffn, { keep: [0] }), kind: 'attention' }], /is not a module of the model/],
  ['a unit that the module lacks', [entry(ffn, { keep: [0, 6] })], /no ascending list of units below 6/],
  ['a unit twice', [entry(ffn, { keep: [2, 2] })], /no ascending list of units below 6/],
  ['no unit', [entry(ffn, { keep: [] })], /no ascending list/],
  ['query heads of KV heads in other numbers', [entry(attention, { keep: [0, 1, 2] })], /query heads of one KV head/],
  ['experts of groups in other numbers', [entry(grouped, { keep: [0, 1, 2] })], /more experts of one group/],
  ['fewer experts than the router chooses', [entry(experts, { keep: [3] })], /keeps 1 experts; .* at least 2/],
  ['neurons of too few experts', [entry(experts, { keep: [0, 1], neurons: ['f0'] })], /does not have 2 rows/],
  ['neurons in different numbers', [entry(experts, { keep: [0, 1], neurons: ['f0', 'e0'] })], /an equal number/],
  ['a neuron that experts lack', [entry(experts, { keep: [0, 1], neurons: ['f4', 'f4'] })], /for 5 units of neurons/],
  [
    'neurons where none can be removed',
    [entry(grouped, { keep: [0, 2], neurons: ['8', '8'] })],
    /has neurons of experts/,
  ],
])('refuses a recipe with %s', (_, modules, message) => {
  expect(parse(...modules)).toThrow(ModelFormatError);
  expect(parse(...modules)).toThrow(message);
});
