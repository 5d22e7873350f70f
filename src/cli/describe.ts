import { groupUnrecognised } from '../architecture/group-unrecognised.js';
import { counted } from '../counted.js';
import type { DescribeRequest } from '../node.js';
import { DESCRIBE } from '../options/commands.js';
import type { ModelDescription, ModuleDescription } from '../report/describe-model.js';
import { formatBytes, formatCount, formatPercent } from '../report/format-quantity.js';
import { numbers, words } from '../report/table-columns.js';
import type { CommandRow } from './command.js';
import { formatTable } from './format-table.js';
import { groupBlocks } from './group-blocks.js';
import type { Colors } from './terminal.js';

/** `describe <model>` */
export const describeCommand: CommandRow<DescribeRequest, ModelDescription> = {
  name: 'describe',
  call: 'describe',
  description: 'show the parts of a model, and which can be pruned',
  arguments: { '<model>': 'a folder, an .onnx file, or org/name on the Hub' },
  families: DESCRIBE,
  examples: ['describe org/model', 'describe ./model', 'describe model.onnx --json'],
  run: (api, request) => api.describe(request),
  format: formatDescription,
};

/** A model description for people. */
export function formatDescription(description: ModelDescription, colors: Colors): string {
  const { format, parameters, embeddings, perLayerEmbeddingBytes: perLayer } = description;
  const weights = format.external ? 'external weights' : 'weights inside';
  const prunable = parameters.total === 0 ? 0 : parameters.prunable / parameters.total;
  return [
    `${colors.bold(description.model)}\n` +
      `ONNX opset ${format.opset}, ${format.dataType}, ${formatBytes(format.bytes)}, ${weights}\n` +
      (embeddings === undefined ? '' : `reads embeddings, from ${embeddings} (not counted)\n`) +
      `hidden size ${description.hiddenSize}, vocabulary ${description.vocabularySize}\n` +
      `${formatCount(parameters.total)} parameters, ${formatCount(parameters.prunable)} prunable (${formatPercent(prunable)})\n` +
      (perLayer === undefined ? '' : `per-layer embeddings: ${formatBytes(perLayer)}, not pruned\n`),
    formatBlocks(description),
    ...groupUnrecognised(description.unrecognised).map(
      ({ name, first: { node, reason, nearest } }) =>
        `${colors.yellow(`${name}:`)} ${reason}, at ${node} (nearest: ${nearest})\n`,
    ),
  ].join('\n');
}

function formatBlocks({ blocks }: ModelDescription): string {
  const runs = groupBlocks(
    blocks.map(({ index }) => index),
    blocks.map(({ modules }) => modules),
  );
  const rows = runs.flatMap(({ name, value }) =>
    value.map((module) => [
      name,
      module.kind,
      module.description,
      describeSize(module),
      formatCount(module.parameters),
    ]),
  );
  return formatTable([...words('block', 'module', 'structure', 'size'), ...numbers('parameters each')], rows);
}

function describeSize(module: ModuleDescription): string {
  const { width, heads, kvHeads, keyHeads, headSize, experts, neurons, bytes } = module;
  if (experts !== undefined) {
    const size = neurons === undefined ? '' : ` of ${counted(neurons, 'neuron')}`;
    return `${counted(experts, 'expert')}${size}${bytes === undefined ? '' : `, ${formatBytes(bytes)}`}`;
  }
  if (heads === undefined) return width === undefined ? '' : counted(width, 'neuron');
  if (keyHeads !== undefined) return `${counted(heads, 'value head')} of ${headSize}, ${counted(keyHeads, 'key head')}`;
  const shared = kvHeads === undefined || kvHeads === heads ? '' : `, ${counted(kvHeads, 'KV head')}`;
  return `${counted(heads, 'head')}${headSize === undefined ? '' : ` of ${headSize}`}${shared}`;
}
