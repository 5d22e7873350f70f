import { ModelFormatError } from '../errors.js';
import { parseModelName } from '../onnx/model-name.js';
import { normaliseRelativePath } from '../onnx/relative-path.js';
import type { Files } from '../runtime/platform.js';
import type { JsonObject } from './read-json.js';

/** Names of embedding models in transformers.js and onnxruntime-genai. */
const STEMS: ReadonlySet<string> = new Set(['embed_tokens', 'embedding']);

/** Order of variants if none has the decoder's. */
const PREFERRED_VARIANTS = ['', '_fp16'];

export interface EmbeddingsPlace {
  readonly root: string;
  /** The decoder, relative to `root`, with `/`. */
  readonly modelFile: string;
  /** Parsed `genai_config.json`. */
  readonly genai: JsonObject | undefined;
}

/**
 * Finds the embedding model of a decoder: the one that `genai_config.json` names, or one next to the decoder,
 * the same variant first.
 * @returns its absolute path; undefined if there is none.
 * @throws ModelFormatError when `genai_config.json` names a path outside the folder.
 */
export async function findEmbeddings(
  files: Files,
  { root, modelFile, genai }: EmbeddingsPlace,
): Promise<string | undefined> {
  const named = Object(Object(genai?.model).embedding).filename as unknown;
  if (typeof named === 'string') {
    const inside = normaliseRelativePath(named);
    const path = inside && files.resolve(root, inside);
    if (path !== undefined) return (await files.kindOf(path)) === undefined ? undefined : path;
    throw new ModelFormatError(
      `${files.resolve(root, 'genai_config.json')} names the embedding model "${named}", which is not a path inside the folder.`,
    );
  }
  const { folder, name } = files.split(files.resolve(root, modelFile));
  const own = parseModelName(name)?.variant ?? '';
  const found = (await files.list(folder)).flatMap(({ name: file }) => {
    const name = file.endsWith('.onnx') ? parseModelName(file) : undefined;
    return name !== undefined && STEMS.has(name.stem) ? [{ file, variant: name.variant }] : [];
  });
  const order = [own, ...PREFERRED_VARIANTS];
  const rank = (variant: string) => (order.includes(variant) ? order.indexOf(variant) : order.length);
  const [best] = found.sort((a, b) => rank(a.variant) - rank(b.variant) || (a.file < b.file ? -1 : 1));
  return best && files.resolve(folder, best.file);
}
