import { parseModelName } from '../onnx/model-name.js';

/** Files that runtimes and their tokenizers read next to a model, by name, since other JSON files may be private. */
const CONFIGURATION: readonly RegExp[] = [
  /^(config|generation_config|genai_config)\.json$/,
  /^(tokenizer|tokenizer_config|tokenizer_module|special_tokens_map|added_tokens|normalizer|tekken|unigram|encoder)\.json$/,
  /^(vocab\.(json|txt|bpe)|merges\.txt)$/,
  /^(tokenizer|sentencepiece|sentencepiece\.bpe|spiece|spm|tiktoken)\.model$/,
  /^tokenizer\.model\.v\d+(m\d+)?$/,
  /^[\w.-]+\.tiktoken$/,
  /^chat_template(\.json|[\w-]*\.jinja)$/,
  /^((image_|video_|audio_|vision_|speech_)?(pre)?processor(_config)?|(audio_)?feature_extract(or|ion)(_config)?)\.json$/,
];

/** Licences and notices, which must be copied; but not licence keys, which have similar names. */
const LICENCE =
  /^(?!.*(key|serial|secret|token|password))((un)?licen[cs]es?([-_ ][\w+-]+(\.\d+)*)?|notices?|copying|copyright|use[-_]policy|third[-_]?party[-_]?(notices?|licen[cs]es?))(\.(txt|md|rst))?$/i;

/** Folders of configuration files: next to the model, or one folder up. */
const CONFIGURATION_FOLDERS: ReadonlySet<string> = new Set(['', 'onnx/']);

/** Folder in which transformers stores further chat templates. */
export const TEMPLATE_FOLDER = 'additional_chat_templates';
const TEMPLATE = /^[\w-][\w.-]*\.jinja$/;

/** Models of other parts than the decoder, by their names in transformers.js, optimum and onnxruntime-genai, without variant. */
const PARTS =
  /^(embed_tokens|(text_)?embeddings?|prepare_inputs_embeds|vision|audio|speech|(vision|image|video|audio|speech)_(encoder|model|tower|projector|embeds?|embeddings?|adapter)|multi_?modal_projector|lm_head|gen_head|gen_img_embeds|image_decode|position_processor)$/;

/** Exporters' names of decoders: with and without KV cache, and merged. */
const DECODERS = /^(model|(decoder|model)(_with_past|_merged)+|decoder(_with_past)?_model(_merged)?)$/;

/** Whether a file is configuration, tokenizer, template or licence of a model. @param path relative to the model's folder, with `/` */
export function isSideFile(path: string): boolean {
  const name = nameOf(path);
  const folder = path.slice(0, path.length - name.length);
  if (folder === `${TEMPLATE_FOLDER}/`) return TEMPLATE.test(name);
  if (folder === '' && LICENCE.test(name)) return true;
  return CONFIGURATION_FOLDERS.has(folder) && CONFIGURATION.some((pattern) => pattern.test(name));
}

/** Whether a file is a model of another part than the decoder, or its external data, in any variant. */
export function isPart(path: string): boolean {
  const stem = parseModelName(nameOf(path))?.stem;
  return stem !== undefined && PARTS.test(stem);
}

/** Creates a test whether a file is a decoder, in any variant. */
export function variantsOf(modelFile: string): (path: string) => boolean {
  const own = parseModelName(nameOf(modelFile))?.stem;
  return (path) => {
    const stem = parseModelName(nameOf(path))?.stem;
    return stem !== undefined && (stem === own || DECODERS.test(stem));
  };
}

/** Last part of a path with `/`. */
export const nameOf = (path: string): string => path.slice(path.lastIndexOf('/') + 1);
