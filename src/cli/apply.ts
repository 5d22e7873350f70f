import type { AppliedRecipe, ApplyRequest } from '../node.js';
import { APPLY } from '../options/commands.js';
import { formatBytes, formatCount } from '../report/format-quantity.js';
import type { CommandRow } from './command.js';
import { formatDone } from './next-steps.js';
import type { Colors } from './terminal.js';

/** `apply <recipe> <model>` */
export const applyCommand: CommandRow<ApplyRequest, AppliedRecipe> = {
  name: 'apply',
  description: 'prune a model as the run did that wrote a recipe',
  arguments: { '<recipe>': 'a folder with recipe.json, or such a file', '<model>': 'the model that was pruned' },
  families: APPLY,
  examples: [
    'apply ./recipe org/model --out smaller',
    'apply ./smaller/recipe.json ./model --out again',
    'apply ./recipe ./model --out smaller --force',
  ],
  run: (api, request) => api.applyRecipe(request),
  format: formatApplied,
};

function formatApplied({ model, out, sha256, parameters, bytes }: AppliedRecipe, colors: Colors): string {
  const sizes = [
    `parameters ${formatCount(parameters.before)} -> ${formatCount(parameters.after)}`,
    `bytes ${formatBytes(bytes.before)} -> ${formatBytes(bytes.after)}`,
  ];
  return `${colors.bold('Pruned')} ${model} -> ${out} by recipe\n${sizes.join(', ')}\nSHA-256 ${sha256}\n\n${formatDone({ out, report: false, next: ['bench', model, out] }, colors)}`;
}
