import type { OnnxModel } from '../onnx/onnx-model.js';
import { type SavedFile, type SavedModel, type SaveOptions, saveModel } from '../onnx/save-model.js';
import { MANIFEST } from '../runtime/folder-manifest.js';
import { type ModelFolder, modelPaths, TOKENIZER, totalBytes } from '../storage/model-folder.js';
import { openFolder } from '../storage/open-folder.js';
import type { JsonObject } from '../storage/read-json.js';
import { listSideFiles, type SideFiles } from '../storage/side-files.js';
import { WINDOWS_FILE } from '../storage/windows-file.js';
import { copyFile, writeText } from '../storage/write-file.js';
import { REPORT_NAME } from '../storage/write-report.js';
import type { Stage } from './job-context.js';

export interface SaveInput extends Pick<SaveOptions, 'layout'> {
  readonly model: OnnxModel;
  /** Source folder, whose runtime files are copied. */
  readonly source: ModelFolder;
  /** Replaced files, JSON or text, by path relative to the folder, such as `config.json`. */
  readonly documents: Readonly<Record<string, JsonObject | string>>;
  /** Replaced models of other parts, by path relative to the folder. Default: those changed in the source. */
  readonly parts?: ReadonlyMap<string, OnnxModel> | undefined;
  /** Files of the source to leave out, by path relative to the folder. Default: none. */
  readonly stale?: readonly string[] | undefined;
  /** Absolute path of the folder to fill. */
  readonly folder: string;
  /** The model file relative to the folder. Default: the source's. */
  readonly file?: string | undefined;
  /** Whether it is a further variant in the folder, so that no other files are copied. Default false. */
  readonly isFurther?: boolean | undefined;
  /** Whether the model equals the source's files, which are copied. Default false. */
  readonly isSource?: boolean | undefined;
}

/** A written model folder. */
export interface SavedFolder extends SavedModel, Pick<SideFiles, 'leftOut' | 'outside'> {
  /** Files copied from the source. */
  readonly copied: readonly string[];
}

/**
 * Writes a model into a folder with the files that runtimes read: configuration, tokenizer, templates, licence, models
 * of other parts. For a single `.onnx` file without config only the model is written.
 * @throws OptionError when a file cannot be written; ModelFormatError when a weight cannot be read.
 */
export const save: Stage<SaveInput, SavedFolder> = {
  name: 'save',
  run: ({ platform: { files }, timed, remarks, onProgress, signal }, input) =>
    timed('save', async () => {
      const {
        model,
        source,
        documents,
        folder,
        file = source.modelFile,
        isFurther = false,
        isSource = false,
        parts = (!isFurther && source.changed?.parts) || new Map<string, OnnxModel>(),
        stale = [],
        ...layout
      } = input;
      const sorted = isFurther ? NOTHING : await sortSideFiles(source, { model, documents, parts });
      const { outside } = sorted;
      const included = sorted.included.filter((path) => !stale.includes(path));
      const leftOut = [...sorted.leftOut, ...stale].sort();
      if (outside.length > 0)
        remarks.push(`not copied, since these links point outside the model's folder: ${outside.join(', ')}`);
      const taken = new Set([...included, ...Object.keys(documents), ...OWN_NAMES]);
      const control = { onProgress, signal };
      const write = async (part: OnnxModel, path: string, options: SaveOptions = {}) => {
        const written = await saveModel(part, openFolder(files, folder), path, { ...options, ...control, taken });
        for (const file of written.files) taken.add(file.path);
        return written;
      };
      const copy = async (path: string): Promise<void> => {
        signal?.throwIfAborted();
        const from = source.platform.files;
        await copyFile(from, from.resolve(source.root, path), { files, path: files.resolve(folder, path) });
      };
      const saved = isSource ? await copyModel(source, model, copy) : await write(model, file, layout);
      for (const [path, part] of parts) await write(part, path);
      for (const path of included) await copy(path);
      for (const [path, document] of Object.entries(documents))
        await writeText(files, files.resolve(folder, path), formatDocument(document));
      signal?.throwIfAborted();
      return { ...saved, copied: included, leftOut, outside };
    }),
};

/** Formats a side file as text. */
export const formatDocument = (document: JsonObject | string): string =>
  typeof document === 'string' ? document : `${JSON.stringify(document, null, 2)}\n`;

/** File with the result of trimming; the option `vocabulary` reads it to trim another model in the same way. */
export const VOCABULARY_FILE = 'fang-prune-vocabulary.json';

/** File with the result of healing. */
export const HEALING_FILE = 'fang-prune-healing.json';

/** Files that this library adds to a folder, which a model's external data must not replace. */
const OWN_NAMES = [MANIFEST, `${REPORT_NAME}.json`, `${REPORT_NAME}.html`, VOCABULARY_FILE, HEALING_FILE, WINDOWS_FILE];

const NOTHING: SideFiles = { included: [], leftOut: [], outside: [] };

async function copyModel(
  source: ModelFolder,
  model: OnnxModel,
  copy: (path: string) => Promise<void>,
): Promise<SavedModel> {
  const files: SavedFile[] = [];
  for (const path of ownFiles(source, model)) {
    await copy(path);
    const place = source.platform.files.resolve(source.root, path);
    files.push({ path, byteLength: await totalBytes(source.platform, [place]) });
  }
  return { files, byteLength: files.reduce((sum, { byteLength }) => sum + byteLength, 0) };
}

/** The model file and its external data, relative to the folder. */
const ownFiles = (source: ModelFolder, model: OnnxModel): string[] =>
  modelPaths(source, model).map((path) => source.platform.files.relative(source.root, path)!);

async function sortSideFiles(
  source: ModelFolder,
  { model, documents, parts = new Map() }: Pick<SaveInput, 'model' | 'documents' | 'parts'>,
) {
  const { files } = source.platform;
  const hasTokenizer = (await files.kindOf(files.resolve(source.root, TOKENIZER))) === 'file';
  // Any folder may contain an ONNX file.
  if (Object.keys(source.documents).length === 0 && !hasTokenizer) return NOTHING;
  const rewritten = [...parts].flatMap(([path, { storage }]) => [path, ...externalFiles(path, storage)]);
  const replaced = new Set([...ownFiles(source, model), ...Object.keys(documents), ...rewritten, WINDOWS_FILE]);
  return listSideFiles(files, source, replaced);
}

/** External data of a part, relative to the folder. */
function externalFiles(path: string, storage: OnnxModel['storage']): readonly string[] {
  const inside = path.slice(0, path.lastIndexOf('/') + 1);
  return storage?.kind === 'external' ? storage.files.map((file) => inside + file) : [];
}
