import { counted } from '../counted.js';
import { printable } from '../printable.js';
import { changeOf } from '../report/describe-change.js';
import { formatFigure } from '../report/format-figure.js';
import { formatBytes, formatCount, formatPercent } from '../report/format-quantity.js';
import type { MetricReport, PruneReport } from '../report/report-schema.js';
import { VERSION } from '../version.js';

/** Contents of a model's page on the Hub. */
export interface ModelCard {
  /** Repository of the model, `org/name`. */
  readonly repo: string;
  /** The dense model, `org/name`; undefined if unknown. */
  readonly baseModel: string | undefined;
  /** The Hub's identifier, such as `apache-2.0`; undefined if unknown. */
  readonly license: string | undefined;
  /** Report of the run; undefined if there is none next to the model. */
  readonly report: PruneReport | undefined;
  readonly layout: 'transformers.js' | 'genai';
}

const PACKAGE = 'https://www.npmjs.com/package/fang-prune';

/** Formats a model card (`README.md`): metadata for the Hub, then text for people. It contains no paths of this machine. */
export function formatModelCard(card: ModelCard): string {
  const { repo, report } = card;
  const parts = [
    formatFacts(card),
    `# ${cell(repo.slice(repo.indexOf('/') + 1))}`,
    introduce(card),
    ...(report === undefined ? [] : [formatSizes(report), formatMeasurements(report, repo), formatMaking(report)]),
    formatOpening(card),
  ];
  return `${parts.join('\n\n')}\n`;
}

/** Metadata that the Hub reads. */
function formatFacts({ baseModel, license, report, layout }: ModelCard): string {
  const isPruned = report === undefined || report.sparsity.achieved > 0;
  const isQuantised = report?.dtypes !== undefined;
  const tags = [
    'onnx',
    'fang-prune',
    ...(isPruned ? ['pruned', 'structured-pruning'] : []),
    ...(isQuantised ? ['quantized'] : []),
  ];
  const facts = [
    `library_name: ${layout === 'genai' ? 'onnxruntime-genai' : 'transformers.js'}`,
    'pipeline_tag: text-generation',
    ...(baseModel === undefined ? [] : [`base_model: ${scalar(baseModel)}`]),
    ...(baseModel !== undefined && !isPruned ? ['base_model_relation: quantized'] : []),
    ...(license === undefined ? [] : [`license: ${scalar(license)}`]),
    `tags:\n${tags.map((tag) => `- ${tag}`).join('\n')}`,
  ];
  return `---\n${facts.join('\n')}\n---`;
}

function introduce({ baseModel, report }: ModelCard): string {
  const base =
    baseModel === undefined ? 'A language model' : `[${cell(baseModel)}](https://huggingface.co/${baseModel})`;
  const by = `[fang-prune](${PACKAGE}) ${VERSION}`;
  if (report === undefined) return `${base}, made smaller by ${by}.`;
  const { sparsity, parameters, healing, dtypes, method } = report;
  const sentences = [
    ...(sparsity.achieved > 0
      ? [
          `${base}, of which ${by} removed ${formatPercent(1 - parameters.after / parameters.before)} of the parameters: whole FFN neurons and attention heads, chosen by the method \`${cell(method)}\`.`,
        ]
      : [`${base}, written in other dtypes by ${by}.`]),
    healing === undefined
      ? 'It was not trained after that.'
      : `After that it learnt from the dense model's predictions on ${counted(healing.windowCount, 'window')} of ${healing.windowLength} tokens.`,
    ...(dtypes === undefined
      ? []
      : [`Its weights are in ${dtypes.map(({ dtype }) => `\`${cell(dtype)}\``).join(', ')}.`]),
  ];
  return sentences.join(' ');
}

function formatSizes({ parameters, bytes, dtypes }: PruneReport): string {
  const rows = [
    ['parameters', formatCount(parameters.before), formatCount(parameters.after), changeOf(parameters)],
    ...(dtypes ?? [{ dtype: 'bytes', bytes: bytes.after }]).map((written) => [
      written.dtype === 'bytes' ? 'bytes' : `bytes in ${written.dtype}`,
      formatBytes(bytes.before),
      formatBytes(written.bytes),
      changeOf({ before: bytes.before, after: written.bytes }),
    ]),
  ];
  return `## Size\n\n${table(['', 'dense', 'this model', 'change'], rows)}`;
}

function formatMeasurements({ metrics = [] }: PruneReport, repo: string): string {
  if (metrics.length === 0)
    return `## Quality\n\nNot measured yet. \`npx fang-prune eval ${repo} --text your-text.txt\` measures its perplexity on a text of yours.`;
  const rows = metrics.map((metric) => [
    `${metric.kind}, ${metric.name.replace(/^.*[\\/]/, '')}${metric.unit === undefined || metric.unit === 'bytes' ? '' : ` (${metric.unit})`}`,
    metric.dense === undefined ? '' : formatFigure(metric, 'dense'),
    formatFigure(metric, 'pruned'),
    protocolOf(metric),
  ]);
  return `## Quality\n\nLower perplexities and higher accuracies are better.\n\n${table(['', 'dense', 'this model', 'measured on'], rows)}`;
}

function protocolOf({ protocol, note }: MetricReport): string {
  if (protocol === undefined) return note ?? '';
  const { windowCount, windowLength, stride } = protocol;
  return `${counted(windowCount, 'window')} of ${windowLength} tokens, ${stride} apart`;
}

function formatMaking({
  method,
  settings,
  sparsity,
  seed,
  version,
  hub,
  calibration,
  certificate,
}: PruneReport): string {
  const facts = [
    `- fang-prune ${version}, method \`${cell(method)}\`, sparsity ${formatPercent(sparsity.achieved)} of ${cell(String(settings.modules ?? 'all'))} modules, seed ${seed}`,
    ...(hub === undefined ? [] : [`- from commit \`${hub.commit}\` of ${cell(hub.repo)}`]),
    ...(calibration === undefined
      ? []
      : [
          `- calibrated on ${counted(calibration.windowCount, 'window')} of ${calibration.windowLength} tokens${writtenBy(calibration)}`,
        ]),
    ...(certificate === undefined
      ? []
      : [
          `- checked: computes what the masked original does, to ${certificate.gap.toExponential(1)} of the logits' range on ${certificate.tokens} tokens`,
        ]),
  ];
  return `## How it was made\n\n${facts.join('\n')}`;
}

const writtenBy = ({ generated }: NonNullable<PruneReport['calibration']>): string =>
  generated === undefined ? '' : `, ${generated.windowCount} of them written by the dense model`;

function formatOpening({ repo, layout }: ModelCard): string {
  if (layout === 'genai')
    return `## How to open it\n\n\`\`\`sh\nhf download ${repo} --local-dir model\n\`\`\`\n\n\`\`\`py\nimport onnxruntime_genai as og\n\nmodel = og.Model('model')\n\`\`\``;
  return `## How to open it\n\n\`\`\`js\nimport { pipeline } from '@huggingface/transformers';\n\nconst write = await pipeline('text-generation', '${repo}');\nconsole.log(await write('Once upon a time', { max_new_tokens: 32 }));\n\`\`\``;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map(cell).join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

/** Escapes Markdown in untrusted text, such as file names. */
const cell = (text: string): string =>
  printable(text)
    .replace(/[\n\t]/g, ' ')
    .replace(/[|<>[\]`\\]/g, '\\$&');

/** A YAML scalar. */
const scalar = (text: string): string => (/^[A-Za-z0-9][\w./-]*$/.test(text) ? text : JSON.stringify(text));
