import { mkdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { GraphProtoSchema, type ModelProto, ModelProtoSchema } from 'onnx-buf';
import { makeNode, makeValueInfo } from '../../src/onnx/build.js';
import { loadModel } from '../../src/onnx/load-model.js';
import { bytesSource, createMemoryFolder } from '../../src/onnx/memory-folder.js';
import type { OnnxModel } from '../../src/onnx/onnx-model.js';
import { copyShortLlama, readShortLlama } from './short-llama.js';

/** The bundled model as exporters of models with images write it: embeddings in a file of their own. */
export interface SplitLlama {
  readonly decoder: ModelProto;
  readonly embedding: ModelProto;
}

export function splitShortLlama(): SplitLlama {
  const decoder = fromBinary(ModelProtoSchema, readShortLlama());
  const graph = decoder.graph!;
  const gather = graph.node.find(({ input }) => input[1] === 'input_ids')!;
  const table = graph.initializer.find(({ name }) => name === gather.input[0])!;
  const width = Number(table.dims[1]);
  const state = () => makeValueInfo('inputs_embeds', 1, ['batch', 'sequence', width]);
  const embedding = create(ModelProtoSchema, {
    irVersion: decoder.irVersion,
    opsetImport: [...decoder.opsetImport],
    graph: create(GraphProtoSchema, {
      name: 'embeddings',
      node: [makeNode({ op: 'Gather', inputs: [table.name, 'input_ids'], outputs: ['inputs_embeds'] })],
      initializer: [{ ...table }],
      input: [makeValueInfo('input_ids', 7, ['batch', 'sequence'])],
      output: [state()],
    }),
  });
  graph.node = graph.node.filter((node) => node !== gather);
  for (const node of graph.node)
    node.input = node.input.map((value) => (value === gather.output[0] ? 'inputs_embeds' : value));
  // The LM head may read the table too.
  const isShared = graph.node.some(({ input }) => input.includes(table.name));
  if (!isShared) graph.initializer = graph.initializer.filter((tensor) => tensor !== table);
  graph.input = graph.input.map((info) => (info.name === 'input_ids' ? state() : info));
  return { decoder, embedding };
}

export const toBytes = (proto: ModelProto): Uint8Array => toBinary(ModelProtoSchema, proto);

export const load = (proto: ModelProto): Promise<OnnxModel> =>
  loadModel(bytesSource('model.onnx', toBytes(proto)), createMemoryFolder('none'));

/** Writes the split model as a folder in transformers.js layout, with other files, such as an image encoder. */
export async function writeSplitLlama(
  folder: string,
  files: Readonly<Record<string, string | Uint8Array>> = {},
): Promise<string> {
  const { decoder, embedding } = splitShortLlama();
  await copyShortLlama(folder);
  await rename(join(folder, 'onnx/model.onnx'), join(folder, 'onnx/decoder_model_merged.onnx'));
  await mkdir(join(folder, 'onnx'), { recursive: true });
  const all = {
    'onnx/decoder_model_merged.onnx': toBytes(decoder),
    'onnx/embed_tokens.onnx': toBytes(embedding),
    ...files,
  };
  for (const [path, content] of Object.entries(all)) await writeFile(join(folder, path), content);
  return folder;
}
