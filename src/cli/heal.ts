import type { HealedFolder, HealRequest } from '../node.js';
import { HEAL } from '../options/commands.js';
import type { CommandRow } from './command.js';
import { withResumeHint } from './interrupted-error.js';
import { asPath } from './next-steps.js';
import { formatOutcome } from './prune.js';
import type { Colors } from './terminal.js';

/** `heal <dense> <pruned>` */
export const healCommand: CommandRow<HealRequest, HealedFolder> = {
  name: 'heal',
  call: 'heal',
  description: 'train a pruned model on the predictions of the dense one (distillation)',
  arguments: {
    '<dense>': 'the model that was pruned: a folder, an .onnx file, or org/name on the Hub',
    '<pruned>': 'the pruned model',
  },
  families: HEAL,
  examples: [
    'heal org/model ./smaller --out healed',
    'heal ./model ./smaller --out healed --heal-windows 256',
    'heal ./model ./smaller --out healed --heal-share 50% --calibration my.txt',
  ],
  run: (api, request) => withResumeHint(request, api.heal(request)),
  format: formatHealed,
};

export function formatHealed(healed: HealedFolder, colors: Colors): string {
  const { dense, pruned, out } = healed;
  return [
    `${colors.bold('Healed')} ${pruned} -> ${out}\n`,
    ...formatOutcome(healed, colors, {
      result: 'healed',
      memory: healed.peakMemoryBytes,
      report: false,
      next: () => ['eval', ...[dense, pruned, out].map(asPath), '--text', 'YOUR-TEXT.txt'],
    }),
  ].join('\n');
}
