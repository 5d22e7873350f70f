import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ModelProto } from 'onnx-buf';
import { publishFolder } from './publish-folder.js';
import { copyLlama, editModel, type Loaded, loadTinyLlama, readTinyLlama, TINY_LLAMA } from './tiny-llama.js';

/** Blocks of it, the first of the bundled model's. */
const BLOCKS = 2;

/** The bundled model with its first two blocks alone, which a run takes a third of the time for. Written once a checkout. */
export const SHORT_LLAMA = makeOnce('node_modules/.cache/fang-prune');

export const readShortLlama = (): Uint8Array => readFileSync(join(SHORT_LLAMA, 'onnx/model.onnx'));

export const loadShortLlama = (): Promise<Loaded> => loadTinyLlama(readShortLlama());

/** Copies what makes a model folder, without texts and tasks; `edit` may change the graph. */
export const copyShortLlama = (folder: string, edit?: (proto: ModelProto) => void): Promise<string> =>
  copyLlama(SHORT_LLAMA, folder, edit);

function makeOnce(cache: string): string {
  const own = createHash('sha256')
    .update(readFileSync(fileURLToPath(import.meta.url)))
    .digest('hex');
  const folder = join(cache, `short-llama-${own.slice(0, 8)}`);
  if (existsSync(folder)) return folder;
  mkdirSync(dirname(folder), { recursive: true });
  const staging = mkdtempSync(`${resolve(folder)}-`);
  cpSync(TINY_LLAMA, staging, { recursive: true });
  const config = join(staging, 'config.json');
  const settings = JSON.parse(readFileSync(config, 'utf8')) as object;
  writeFileSync(config, JSON.stringify({ ...settings, num_hidden_layers: BLOCKS }, undefined, 2));
  writeFileSync(join(staging, 'onnx/model.onnx'), editModel(readTinyLlama(), shorten));
  return publishFolder(staging, folder);
}

function shorten({ graph }: ModelProto): void {
  const { node, input, output, initializer } = graph!;
  const resultOf = (block: number) => `/model/layers.${block}/Add_1_output_0`;
  const stays = ({ name }: { readonly name: string }) =>
    Number(/(?:layers|past_key_values|present)\.(\d+)/.exec(name)?.[1] ?? 0) < BLOCKS;
  const blockCount = input.filter(({ name }) => name.endsWith('.key')).length;
  const outputs = output.filter(stays);
  const read = new Set(outputs.map(({ name }) => name));
  // Readers come after what they read.
  const nodes = node
    .filter(stays)
    .reverse()
    .filter((reader) => {
      if (!reader.output.some((value) => read.has(value))) return false;
      reader.input = reader.input.map((value) => (value === resultOf(blockCount - 1) ? resultOf(BLOCKS - 1) : value));
      for (const value of reader.input) read.add(value);
      return true;
    });
  Object.assign(graph!, {
    node: nodes.reverse(),
    input: input.filter(stays),
    output: outputs,
    initializer: initializer.filter(({ name }) => read.has(name)),
  });
}
