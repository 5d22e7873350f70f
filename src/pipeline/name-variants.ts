import { OptionError } from '../errors.js';
import { parseModelName } from '../onnx/model-name.js';
import type { FolderLayout } from '../options/quantisation.js';
import { DTYPES, type DtypeName } from '../quantisation/dtypes.js';
import type { ModelFolder } from '../storage/model-folder.js';
import type { JsonObject } from '../storage/read-json.js';
import { nameOf } from '../storage/side-file-names.js';

type Folder = Pick<ModelFolder, 'modelFile' | 'documents' | 'embeddings'>;

/** Layout of a folder: the requested one, or the one that its documents indicate. @throws OptionError if required documents are missing. */
export function layoutOf({ documents }: Pick<Folder, 'documents'>, requested: FolderLayout | undefined): FolderLayout {
  const layout = requested ?? (documents['genai_config.json'] === undefined ? 'transformers.js' : 'genai');
  const needed = layout === 'genai' ? 'genai_config.json' : 'config.json';
  if (requested !== undefined && documents[needed] === undefined)
    throw new OptionError(
      `layout is "${requested}", which needs ${needed} next to the model, and there is none; leave the layout out, or add the file`,
      { option: 'layout' },
    );
  return layout;
}

/** Path of a model file in a dtype by the runtime's convention, relative to the folder. */
export function variantFile({ modelFile, embeddings }: Folder, layout: FolderLayout, dtype: DtypeName): string {
  const at = modelFile.lastIndexOf('/') + 1;
  // genai_config.json names the model file.
  if (layout === 'genai') return modelFile;
  const known = parseModelName(modelFile.slice(at))?.stem ?? 'model';
  // transformers.js looks for `model`, or for a decoder next to a separate embedding model.
  const stem = embeddings === undefined && known.startsWith('decoder_') ? 'model' : known;
  // The embedding model keeps its place, next to the decoder.
  const inside = at === 0 && embeddings === undefined ? 'onnx/' : modelFile.slice(0, at);
  return `${inside}${stem}${DTYPES[dtype].suffix}.onnx`;
}

/** A folder of a result, relative to the result's own, and the dtypes in it. */
export interface DtypeFolder {
  /** Empty: the result's folder itself. */
  readonly inside: string;
  readonly dtypes: readonly DtypeName[];
}

/** Folders of a result: genai has one model a folder, so that several dtypes get one each. */
export function dtypeFolders(
  layout: FolderLayout,
  dtypes: readonly DtypeName[],
): readonly [DtypeFolder, ...DtypeFolder[]] {
  const [first, ...others] = dtypes.map((dtype): DtypeFolder => ({ inside: dtype, dtypes: [dtype] }));
  if (layout === 'transformers.js' || first === undefined || others.length === 0) return [{ inside: '', dtypes }];
  return [first, ...others];
}

/** A model that was written in a dtype. */
export interface WrittenVariant {
  readonly dtype: DtypeName;
  readonly file: string;
  /** External data files next to it. */
  readonly externalFileCount: number;
}

/**
 * Writes for transformers.js into config.json: the default dtype (the first one), the KV cache type of each dtype, and
 * the number of external data files. With a separate embedding model, the dtype of each part is written.
 * @param embeddings The embedding model's file.
 */
export function writeDtypeConfig(
  config: JsonObject,
  variants: readonly WrittenVariant[],
  embeddings?: string | undefined,
): JsonObject {
  const {
    dtype: dtypes,
    kv_cache_dtype: __,
    use_external_data_format: ___,
    ...js
  } = Object(config['transformers.js_config']) as JsonObject;
  const [{ dtype, file: first }] = variants as readonly [WrittenVariant, ...WrittenVariant[]];
  const parts = embeddings !== undefined && {
    ...(typeof dtypes === 'object' ? dtypes : {}),
    ...Object.fromEntries(partDtype(embeddings)),
    [parseModelName(nameOf(first))!.stem]: dtype,
  };
  const halves = variants.filter(({ dtype }) => DTYPES[dtype].floats === 'float16');
  const external = variants.filter(({ externalFileCount }) => externalFileCount > 0);
  return {
    ...config,
    'transformers.js_config': {
      ...js,
      dtype: parts || dtype,
      ...(halves.length > 0 && { kv_cache_dtype: Object.fromEntries(halves.map(({ dtype }) => [dtype, 'float16'])) }),
      ...(external.length > 0 && {
        use_external_data_format: Object.fromEntries(
          external.map(({ file, externalFileCount }) => [nameOf(file), externalFileCount]),
        ),
      }),
    },
  };
}

/** Name and dtype of a part, from its file name. */
function partDtype(file: string): [string, DtypeName][] {
  const { stem, variant } = parseModelName(nameOf(file)) ?? {};
  const dtype = dtypeOf(variant);
  return stem === undefined || dtype === undefined ? [] : [[stem, dtype]];
}

/** Dtype of a file name suffix. */
function dtypeOf(variant: string | undefined): DtypeName | undefined {
  const [dtype] = Object.entries(DTYPES).find(([, { suffix }]) => suffix === variant) ?? [];
  return dtype as DtypeName | undefined;
}

/** A model written under its original name. */
export interface WrittenModel {
  readonly modelFile: string;
  /** External data files, relative to the model file's folder. */
  readonly external: readonly string[];
}

/**
 * Writes into config.json the dtype of the only model and its number of external data files: transformers.js otherwise
 * looks for `q8` in WebAssembly and for no external data. Models with other names, or with several parts, get no entry.
 */
export function writeOwnDtype(config: JsonObject, { modelFile, external }: WrittenModel): JsonObject {
  const js = Object(config['transformers.js_config']) as JsonObject;
  const [, variant = ''] = /^onnx\/model(_\w+)?\.onnx$/.exec(modelFile) ?? [undefined, 'none'];
  const dtype = dtypeOf(variant);
  if (dtype === undefined || typeof js.dtype === 'object') return config;
  const name = nameOf(modelFile);
  // transformers.js does not find other names.
  const isFound = external[0] === `${name}_data` && js.use_external_data_format === undefined;
  const data = isFound && { use_external_data_format: { [name]: external.length } };
  return { ...config, 'transformers.js_config': { ...js, dtype, ...data } };
}
