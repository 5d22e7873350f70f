import { choice, type Fields, type Kind, withFields } from '../../src/options/kinds.js';
import { REPORT } from '../../src/report/check-report.js';
import { RECIPE } from '../../src/report/parse-recipe.js';
import { STATISTICS } from '../../src/report/parse-statistics.js';
import { RECIPE_SCHEMA } from '../../src/report/recipe-schema.js';
import { REPORT_SCHEMA } from '../../src/report/report-schema.js';
import { SAVED_FILE } from '../../src/report/saved-file.js';
import { STATISTICS_SCHEMA } from '../../src/report/statistics-schema.js';

interface JsonFile {
  readonly title: string;
  readonly description: string;
  readonly fields: Fields;
}

const FILES: Readonly<Record<string, JsonFile>> = {
  report: {
    title: 'Report of fang-prune',
    description: 'fang-prune-report.json: the result of a pruning run. Type `PruneReport` documents each field.',
    fields: { schema: choice([REPORT_SCHEMA]), ...REPORT },
  },
  recipe: {
    title: 'Recipe of fang-prune',
    description: 'recipe.json: the units that a run kept, for `applyRecipe`. Type `Recipe` documents each field.',
    fields: { schema: choice([RECIPE_SCHEMA]), ...SAVED_FILE, ...RECIPE },
  },
  statistics: {
    title: 'Statistics of fang-prune',
    description: 'statistics.json: measurements of a dense model, for `prune({ statistics })`.',
    fields: { schema: choice([STATISTICS_SCHEMA]), ...SAVED_FILE, ...STATISTICS },
  },
};

/** JSON Schema of each JSON file that the library writes and reads, by its path in the package; from the checks of its reader. */
export function formatSchemas(): ReadonlyMap<string, string> {
  return new Map(
    Object.entries(FILES).map(([name, { title, description, fields }]) => {
      const schema = { $schema: 'https://json-schema.org/draft/2020-12/schema', title, description };
      const content = { ...schema, ...toJsonSchema(withFields(fields), name) };
      return [`schema/${name}.json`, `${JSON.stringify(content, undefined, 2)}\n`];
    }),
  );
}

function toJsonSchema({ schema, item, fields, expected }: Kind<unknown>, place: string): object {
  if (schema === undefined)
    throw new Error(`${place}: the kind "${expected}" has no \`schema\` in src/options/kinds.ts`);
  const required = Object.entries(fields ?? {}).filter(([, { isOptional }]) => isOptional !== true);
  return {
    ...schema,
    ...(item !== undefined && { items: toJsonSchema(item, `${place}[]`) }),
    ...(fields !== undefined && {
      properties: Object.fromEntries(
        Object.entries(fields).map(([name, field]) => [name, toJsonSchema(field, `${place}.${name}`)]),
      ),
    }),
    ...(required.length > 0 && { required: required.map(([name]) => name) }),
  };
}
