import { DEFAULT_THREADS } from '../runtime/platform.js';
import { boolean, either, integer, listOf, text, withMethods } from './kinds.js';
import { type AnyRows, row } from './option.js';
import { CONTROL } from './run.js';

/** A model's folder or file. */
export const modelPath = text(
  'a folder in the transformers.js or genai layout, an .onnx file, or a model of the Hugging Face Hub, such as org/name',
);
export const modelPaths = listOf(modelPath, 'a list of folders or .onnx files, at least one', 'texts');

/** Options of every call that loads a model. */
export const PROVIDER = {
  embeddings: row('--embeddings <file>', 'embedding model of a decoder that reads inputs_embeds', {
    kind: text('the path of an .onnx file'),
    otherwise: 'the one in its folder',
  }),
  offline: row('--offline', 'read models of the Hugging Face Hub only from the cache', {
    kind: boolean,
    otherwise: 'the value of HF_HUB_OFFLINE',
  }),
  executionProvider: row('--execution-provider <names>', 'ONNX Runtime providers: cuda,cpu', {
    kind: { ...either(text('a name'), listOf(text('a name'), 'a list of names', 'names')), reads: 'names' },
    otherwise: 'cpu',
    common: true,
  }),
} as const satisfies AnyRows;

export const ENGINE = {
  ...PROVIDER,
  threads: row('--threads <count>', 'threads that share an operator; results depend on them in the last bits', {
    kind: integer(0),
    otherwise: `${DEFAULT_THREADS} on every machine; 0: ONNX Runtime chooses, by the cores`,
  }),
} as const satisfies AnyRows;

/** Engine and job control. */
export const JOB = {
  engine: row(undefined, 'engine to use instead of executionProvider', {
    kind: withMethods('an engine, which has { name, load(model, options) }', ['load']),
    otherwise: 'one of onnxruntime-node',
  }),
  ...CONTROL,
} as const satisfies AnyRows;

export const MODEL = {
  model: row(undefined, 'the model', { kind: modelPath, required: true }),
  ...ENGINE,
  ...JOB,
} as const satisfies AnyRows;
