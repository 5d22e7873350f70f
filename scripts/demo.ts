/** Prunes the bundled model at three sparsities and shows costs and savings. `npm run demo` */
import { readdirSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { benchmark, generateText, type PruneReport, pruneLadder, rebuildReport } from 'fang-prune';
import { formatTable } from '../src/cli/format-table.js';
import { createProgressDisplay } from '../src/cli/progress-display.js';
import { processTerminal } from '../src/cli/terminal.js';
import { formatBytes, formatCount, formatExactPercent, formatThreeDigits } from '../src/report/format-quantity.js';

const MODEL = 'examples/models/tiny-llama';
const OUTPUT = 'demo-output/tiny-llama';
const SPARSITY = [0.2, 0.3, 0.4];
const PROMPT = 'Once upon a time';

/** Whose report the reader is sent to: enough is gone for it to be worth it, and to see a price. */
const SHOWN = 0.3;

/** The length the model was trained on. */
const WINDOW_LENGTH = 256;

/** Enough of each text for a steady figure, in seconds rather than minutes. */
const EVALUATION = {
  texts: readdirSync(join(MODEL, 'text')).map((name) => join(MODEL, 'text', name)),
  windowLength: WINDOW_LENGTH,
  windowCount: 8,
};

const BENCHMARK = { promptLength: 128, newTokens: 16, rounds: 9, probe: false };

/** How rows are called; by their own name when absent. */
const METRIC_NAMES: Readonly<Record<string, (name: string, unit: string) => string>> = {
  perplexity: (name) => `perplexity, ${basename(name, '.txt')}`,
  speed: (name, unit) => `${name}, ${unit}`,
};

const terminal = processTerminal();
const display = createProgressDisplay(terminal);
const onProgress = display.listener;
try {
  terminal.err(`Pruning ${MODEL} at ${SPARSITY.map(formatExactPercent).join(', ')}\n`);
  const reports = await pruneLadder({
    model: MODEL,
    out: OUTPUT,
    sparsity: SPARSITY,
    calibration: { windowLength: WINDOW_LENGTH },
    evaluation: EVALUATION,
    force: true,
    onProgress,
  });
  const models = [MODEL, ...reports.map(({ out }) => out!)];
  const bench = join(OUTPUT, 'bench.json');
  await writeFile(bench, JSON.stringify(await benchmark({ models, ...BENCHMARK, onProgress })));
  const measured: PruneReport[] = [];
  for (const { out } of reports) measured.push((await rebuildReport({ report: out!, add: [bench] })).report);
  display.close();
  terminal.out(
    `\n${formatLadder(measured)}~: no different from the dense model beyond noise.\n\n${await formatSamples(models)}\n`,
  );
  terminal.out(`The pruned models are in ${OUTPUT}/, ready for onnxruntime and transformers.js.\n`);
  const shown = measured.find(({ sparsity }) => sparsity.requested === SHOWN) ?? measured[0]!;
  terminal.out(`Open ${join(shown.out!, 'fang-prune-report.html')} in a browser to see what was removed and why.\n`);
} finally {
  display.close();
}

/** A table with a column per model, the dense one first, and a row per measurement. */
function formatLadder(reports: readonly PruneReport[]): string {
  const [first] = reports;
  const row = (name: string, pick: (report: PruneReport) => readonly [dense: string, pruned: string]) => [
    name,
    pick(first!)[0],
    ...reports.map((report) => pick(report)[1]),
  ];
  const metrics = (first?.metrics ?? []).map(({ kind, name, unit = '' }) =>
    row(METRIC_NAMES[kind]?.(name, unit) ?? name, (report) => {
      const { dense, pruned, verdict } = report.metrics!.find((found) => found.kind === kind && found.name === name)!;
      const show = unit === 'bytes' ? formatBytes : formatThreeDigits;
      return [dense === undefined ? '' : show(dense), `${verdict === 'same' ? '~' : ''}${show(pruned)}`];
    }),
  );
  return formatTable(
    [
      { heading: '' },
      { heading: 'dense', numeric: true },
      ...reports.map(({ sparsity }) => ({
        heading: `${formatExactPercent(sparsity.requested)} pruned`,
        numeric: true,
      })),
    ],
    [
      row('parameters', ({ parameters }) => [formatCount(parameters.before), formatCount(parameters.after)]),
      row('bytes', ({ bytes }) => [formatBytes(bytes.before), formatBytes(bytes.after)]),
      ...metrics,
    ],
  );
}

/** Each model's continuation of a prompt. */
async function formatSamples(models: readonly string[]): Promise<string> {
  const lines: string[] = [];
  for (const model of models) {
    const { text } = await generateText({ model, prompt: PROMPT, newTokens: 40 });
    lines.push(`${model}\n  ${JSON.stringify(PROMPT + text)}\n`);
  }
  return lines.join('');
}
