/**
 * Writes a copy of a Llama or Gemma in transformers.js' layout (optimum's export) with the same outputs, but weights on no grid:
 * weights that were quantised before make rounding to the same grid look too good. Every input channel of query/key/value and
 * of gate/up is multiplied by a random factor (log-normal, sigma 0.15), by which the norm's gain is divided; and so are each
 * neuron's up row and down column, and each value channel and its columns of the output projection.
 */

import { cpSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { createRandom, drawNormal } from '../src/linalg/random.js';
import { nodePlatform } from '../src/node/node-platform.js';
import { setWeight } from '../src/onnx/edit-weights.js';
import { encodeFloats, readFloat32 } from '../src/onnx/float-encoding.js';
import { saveModel } from '../src/onnx/save-model.js';
import { bytesHandle } from '../src/onnx/tensor-handle.js';
import { openModelFolder } from '../src/storage/model-folder.js';
import { openFolder } from '../src/storage/open-folder.js';
import { readArguments, refuse } from './read-arguments.js';

const USAGE = 'npx tsx scripts/off-grid.ts MODEL_FOLDER OUT_FOLDER [--seed 0]';
const { values, positionals } = readArguments(USAGE, { seed: { type: 'string', default: '0' } });
const [from, to] = positionals;
if (from === undefined || to === undefined) refuse(USAGE, 'a model folder and a folder to write are missing');
await leaveGrid(from, to, Number(values.seed));

async function leaveGrid(source: string, target: string, seed: number): Promise<void> {
  const random = createRandom(seed);
  const draw = (count: number) => Float64Array.from({ length: count }, () => Math.exp(0.15 * drawNormal(random)));
  const folder = await openModelFolder(nodePlatform, source);
  const model = await folder.load();
  const { head_dim, hidden_size, num_attention_heads, num_hidden_layers } = folder.documents['config.json'] as Record<
    string,
    number
  >;
  const headSize = head_dim ?? hidden_size! / num_attention_heads!;
  const nodes = model.proto.graph!.node;
  const matMul = (node: string) => nodes.find(({ name }) => name === `${node}/MatMul`)!;
  const weightOf = (node: string): string => matMul(node).input[1]!;
  /** The gain of the norm before a linear layer. Gemma's exports fold it into a constant of another name, and have more norms. */
  const gainBefore = (node: string): string => {
    const [input] = matMul(node).input;
    const norm = nodes.find(({ output }) => output.includes(input!))!;
    return norm.input.find((name) => model.weights.has(name))!;
  };
  /** Multiplies along one axis of a weight. */
  const scale = async (name: string, axis: 0 | 1, factor: (at: number) => number): Promise<void> => {
    const handle = model.weights.get(name)!;
    const numbers = await readFloat32(handle);
    const [, width = 1] = handle.dims;
    for (let at = 0; at < numbers.length; at += 1)
      numbers[at]! *= factor(
        handle.dims.length === 1 || axis === 0 ? Math.floor(at / (handle.dims.length === 1 ? 1 : width)) : at % width,
      );
    setWeight(model, name, bytesHandle(handle, encodeFloats(handle.dataType, numbers)));
  };
  for (let block = 0; block < num_hidden_layers!; block += 1) {
    const at = (part: string) => weightOf(`/model/layers.${block}/${part}`);
    for (const maps of [
      ['self_attn/q_proj', 'self_attn/k_proj', 'self_attn/v_proj'],
      ['mlp/gate_proj', 'mlp/up_proj'],
    ]) {
      const factors = draw(hidden_size!);
      await scale(gainBefore(`/model/layers.${block}/${maps[0]}`), 0, (channel) => 1 / factors[channel]!);
      for (const map of maps) await scale(at(map), 0, (channel) => factors[channel]!);
    }
    const neurons = draw(model.weights.get(at('mlp/down_proj'))!.dims[0]!);
    await scale(at('mlp/up_proj'), 1, (neuron) => neurons[neuron]!);
    await scale(at('mlp/down_proj'), 0, (neuron) => 1 / neurons[neuron]!);
    const values = draw(model.weights.get(at('self_attn/v_proj'))!.dims[1]!);
    const headsPerGroup = (num_attention_heads! * headSize) / values.length;
    await scale(at('self_attn/v_proj'), 1, (channel) => values[channel]!);
    await scale(at('self_attn/o_proj'), 0, (channel) => {
      const group = Math.floor(channel / headSize / headsPerGroup);
      return 1 / values[group * headSize + (channel % headSize)]!;
    });
  }
  cpSync(source, resolve(target), { recursive: true, filter: (path) => !/\.onnx(_data)?$/.test(path) });
  const saved = await saveModel(model, openFolder(nodePlatform.files, resolve(target)), folder.modelFile);
  await folder.close();
  process.stdout.write(`${join(target, folder.modelFile)}: ${saved.byteLength} bytes\n`);
}
