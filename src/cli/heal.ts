import type { HealedFolder, HealRequest } from '../node.js';
import { HEAL } from '../options/commands.js';
import type { CommandRow } from './command.js';
import { formatElapsed, formatNotes, formatSideFiles } from './format-run.js';
import { withResumeHint } from './interrupted-error.js';
import { asPath, formatDone } from './next-steps.js';
import { formatCertificate, formatHealing, formatQuality } from './prune.js';
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
  const { dense, pruned, out, healing, certificate, quality, sideFiles, timings, remarks, peakMemoryBytes } = healed;
  return [
    `${colors.bold('Healed')} ${pruned} -> ${out}\n`,
    ...formatHealing(healing),
    ...formatCertificate(certificate),
    ...formatSideFiles(sideFiles),
    ...formatNotes(remarks, colors),
    ...formatQuality(quality, 'healed'),
    formatElapsed(timings, colors, peakMemoryBytes),
    formatDone(
      { out, report: false, next: ['eval', ...[dense, pruned, out].map(asPath), '--text', 'YOUR-TEXT.txt'] },
      colors,
    ),
  ].join('\n');
}
