import type { AppliedRecipe, ApplyRequest } from '../node.js';
import { APPLY } from '../options/commands.js';
import { formatBytes, formatCount } from '../report/format-quantity.js';
import type { CommandRow } from './command.js';
import { formatSideFiles } from './format-run.js';
import { asPath, formatDone } from './next-steps.js';
import type { Colors } from './terminal.js';

/** `apply <recipe> <model>` */
export const applyCommand: CommandRow<ApplyRequest, AppliedRecipe> = {
  name: 'apply',
  call: 'applyRecipe',
  description: 'prune a model by the recipe of another run',
  arguments: { '<recipe>': 'a recipe.json file, or a folder with one', '<model>': 'the model that was pruned' },
  families: APPLY,
  examples: [
    'apply ./recipe org/model --out smaller',
    'apply ./smaller/recipe.json ./model --out again',
    'apply ./recipe ./model --out smaller --force',
  ],
  run: (api, request) => api.applyRecipe(request),
  format: formatApplied,
};

function formatApplied(applied: AppliedRecipe, colors: Colors): string {
  const { model, out, sha256, parameters, bytes, sideFiles } = applied;
  const sizes = [
    `parameters ${formatCount(parameters.before)} -> ${formatCount(parameters.after)}`,
    `bytes ${formatBytes(bytes.before)} -> ${formatBytes(bytes.after)}`,
  ];
  return [
    `${colors.bold('Pruned')} ${model} -> ${out} by recipe\n${sizes.join(', ')}\nSHA-256 ${sha256}\n`,
    ...formatSideFiles(sideFiles),
    formatDone({ out, report: false, next: ['bench', asPath(model), asPath(out)] }, colors),
  ].join('\n');
}
