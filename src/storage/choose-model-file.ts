import { OptionError, UnsupportedModelError } from '../errors.js';
import { type ModelName, parseModelName } from '../onnx/model-name.js';
import { normaliseRelativePath } from '../onnx/relative-path.js';
import type { Files } from '../runtime/platform.js';
import type { JsonObject } from './read-json.js';
import { nameOf } from './side-file-names.js';

/** Paths of full-precision models, best first. */
const MODEL_FILES = ['onnx/model.onnx', 'model.onnx'] as const;

/** Variants as transformers.js names them, best first. */
const VARIANTS: readonly string[] = [
  '',
  '_fp32',
  '_fp16',
  '_quantized',
  '_q8',
  '_int8',
  '_uint8',
  '_q4',
  '_q4f16',
  '_bnb4',
  '_q2',
  '_q2f16',
];

/** Names of models next to a decoder that are not decoders. */
const COMPANIONS = /^(embed|vision|audio|speech|encoder)\w*\.onnx$/;

/** Decoders of exports with several models, such as vision and text. */
const DECODER_FILES = ['onnx/decoder_model_merged.onnx', 'onnx/decoder_model.onnx'] as const;

/** Files of a model's folder, by relative path with `/`. */
export interface ModelListing {
  /** For messages. */
  readonly name: string;
  isFile(path: string): Promise<boolean>;
  /** ONNX files in the folder itself and in its `onnx` folder. */
  onnxFiles(): Promise<readonly string[]>;
}

export interface ModelChoice {
  /** File that the user named, relative to the folder. */
  readonly file: string | undefined;
  readonly genai: JsonObject | undefined;
}

/**
 * Chooses the model among the ONNX files of a folder: `model.onnx`, the decoder that `genai_config.json` names, else the only
 * decoder, in its best precision.
 * @throws OptionError for none, or several that differ in more than their precision; UnsupportedModelError for an encoder
 * and a decoder.
 */
export async function chooseModelFile(listing: ModelListing, { file, genai }: ModelChoice): Promise<string> {
  const { name: root } = listing;
  const named = Object(Object(genai?.model).decoder).filename as unknown;
  const inside = typeof named === 'string' ? normaliseRelativePath(named) : undefined;
  const candidates = file === undefined ? [...MODEL_FILES, ...(inside === undefined ? [] : [inside])] : [file];
  const firstOf = async (paths: readonly string[]) => {
    for (const path of paths) {
      if (await listing.isFile(path)) return path.replaceAll('\\', '/');
    }
    return undefined;
  };
  const known = await firstOf(candidates);
  if (known !== undefined) return known;
  const found = await listing.onnxFiles();
  if (found.some(isNamed('encoder_model')) && found.some(isNamed('decoder_model')))
    throw refuseEncoderDecoder(root, `it has ${found.join(', ')}`);
  const decoder = file === undefined ? await firstOf(DECODER_FILES) : undefined;
  if (decoder !== undefined) return decoder;
  const decoders = file === undefined ? found.filter((path) => !COMPANIONS.test(nameOf(path))) : [];
  const models = new Set(decoders.map((path) => modelName(path).stem));
  if (decoders.length === 1) return decoders[0]!;
  if (models.size === 1) return chooseBest(decoders);
  throw new OptionError(
    `There is no model in ${root}: looked for ${candidates.join(' and ')}. ` +
      (found.length > 0
        ? `It has ${found.join(', ')}: name one of them as the file to prune.`
        : 'It has no .onnx file: export the model to ONNX first.'),
  );
}

/** Best of the files of one model in several precisions: floats first, then the most bits. */
function chooseBest(files: readonly string[]): string {
  const rank = (path: string) => {
    const at = VARIANTS.indexOf(modelName(path).variant);
    return (at < 0 ? VARIANTS.length : at) + (path.startsWith('onnx/') ? 0 : 0.5);
  };
  return files.toSorted((a, b) => rank(a) - rank(b))[0]!;
}

const isNamed =
  (start: string) =>
  (path: string): boolean =>
    nameOf(path).startsWith(start);

const modelName = (path: string): ModelName => parseModelName(nameOf(path)) ?? { stem: path, variant: '' };

/**
 * Refuses an encoder-decoder by its configuration files.
 * @throws UnsupportedModelError naming the file.
 */
export function checkDecoderOnly(root: string, config: JsonObject = {}, genai: JsonObject = {}): void {
  if (config.is_encoder_decoder === true)
    throw refuseEncoderDecoder(root, `config.json has "is_encoder_decoder": true (${config.model_type ?? 'no type'})`);
  const { encoder, type } = Object(genai.model) as JsonObject;
  if (encoder !== undefined)
    throw refuseEncoderDecoder(root, `genai_config.json has an encoder next to its decoder (${type ?? 'no type'})`);
}

const refuseEncoderDecoder = (root: string, found: string): UnsupportedModelError =>
  new UnsupportedModelError(
    `${root} is an encoder-decoder: ${found}. Models such as T5, BART, Marian and Whisper cannot be pruned yet, only decoder-only text models; choose one of those.`,
  );

/** Listing of a folder. */
export function listingOf(files: Files, root: string): ModelListing {
  const list = async (folder: string) => {
    const path = files.resolve(root, folder);
    const entries = (await files.kindOf(path)) === 'folder' ? await files.list(path) : [];
    return entries.filter(({ name }) => name.endsWith('.onnx')).map(({ name }) => folder + name);
  };
  return {
    name: root,
    isFile: async (path) => (await files.kindOf(files.resolve(root, path))) === 'file',
    onnxFiles: async () => [...(await list('onnx/')), ...(await list(''))].sort(),
  };
}
