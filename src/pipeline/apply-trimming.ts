import { counted } from '../counted.js';
import { measureModel } from '../onnx/save-model.js';
import type { VocabularyReport } from '../report/report-schema.js';
import { type ModelFolder, modelPaths, TOKENIZER, totalBytes } from '../storage/model-folder.js';
import { type JsonObject, readJsonFile } from '../storage/read-json.js';
import { listSideFiles } from '../storage/side-files.js';
import { cutVocabulary } from '../vocabulary/cut-vocabulary.js';
import { type RenumberedIds, renumberIds } from '../vocabulary/renumbered-ids.js';
import { renumberDocument } from '../vocabulary/token-ids-in-documents.js';
import { trimTokenizer } from '../vocabulary/trim-tokenizer.js';
import { vocabularyFileOf } from '../vocabulary/vocabulary-files.js';
import type { TracedGraph, TrimmingPlan } from './plan-trimming.js';
import { documentsOf } from './result-facts.js';

/** Trimmed graphs of a plan. */
export interface CutGraphs {
  readonly ids: RenumberedIds;
  readonly report: VocabularyReport;
}

/** Removes the rows of removed tokens from all graphs of a plan, in place. */
export async function cutGraphs(plan: TrimmingPlan): Promise<CutGraphs> {
  const ids = renumberIds(plan.chosen.keep);
  const graphs = [plan.decoder, ...plan.parts.values()];
  const before = graphs.flatMap(sizesOf);
  for (const { model, trace } of graphs) cutVocabulary(model, trace, ids);
  return { ids, report: await reportTrimming(plan, ids, before) };
}

/** Remarks about the remaining tokens. */
export function remarkTokens({ chosen: { addedToList, filledUp } }: TrimmingPlan): readonly string[] {
  return [
    ...(addedToList > 0
      ? [
          `kept ${counted(addedToList, 'token')} that the list does not have: bytes or single characters, special and added tokens, those of the chat template and of the configuration`,
        ]
      : []),
    ...(filledUp > 0
      ? [
          `kept ${counted(filledUp, 'more token')}, so that the LM head has a multiple of 4 rows, for which kernels of quantised weights give identical logits`,
        ]
      : []),
  ];
}

/** Remarks about files that are not copied. */
export const remarkStale = (stale: readonly string[]): readonly string[] =>
  stale.length === 0
    ? []
    : [`not copied, since they contain removed tokens: ${stale.join(', ')}; tokenizer.json replaces them`];

interface TableSize {
  readonly model: TracedGraph['model'];
  readonly name: string;
  readonly rows: number;
  readonly byteLength: number;
}

const sizesOf = ({ model, trace: { tables } }: TracedGraph): readonly TableSize[] =>
  [...tables.values()].map(({ name, rows }) => ({
    model,
    name,
    rows,
    byteLength: model.weights.get(name)!.byteLength,
  }));

/** Report of trimmed graphs. */
async function reportTrimming(
  { folder, decoder, parts, file, chosen, rows }: TrimmingPlan,
  ids: RenumberedIds,
  before: readonly TableSize[],
): Promise<VocabularyReport> {
  const { platform, root } = folder;
  const { resolve } = platform.files;
  const partPaths = [...parts].flatMap(([path, { model }]) =>
    modelPaths({ ...folder, modelFile: path } as ModelFolder, model),
  );
  const written = [...parts].map(([path, { model }]) => measureModel(model, path));
  const merges = file.merges.filter(({ left, right, result }) =>
    [left, right, result].every((id) => ids.newId(id) !== undefined),
  );
  return {
    rows: { before: rows, after: ids.countBelow(rows) },
    tokens: {
      before: file.contents.filter((content) => content !== undefined).length,
      after: chosen.keep.reduce((count, id) => count + (file.contents[id] === undefined ? 0 : 1), 0),
    },
    reasons: chosen.counts,
    ...(file.merges.length > 0 && { merges: { before: file.merges.length, after: merges.length } }),
    bytes: {
      before: await totalBytes(
        platform,
        [...modelPaths(folder, decoder.model), ...partPaths].map((path) => resolve(root, path)),
      ),
      after: written.reduce((sum, bytes) => sum + bytes, measureModel(decoder.model, folder.modelFile)),
    },
    tables: before.map(({ model, name, rows: all, byteLength }) => ({
      name,
      rows: { before: all, after: ids.countBelow(all) },
      bytes: { before: byteLength, after: model.weights.get(name)!.byteLength },
    })),
  };
}

/** Files next to a model with new ids. */
export interface RewrittenDocuments {
  /** By path relative to the folder. */
  readonly documents: Readonly<Record<string, JsonObject | string>>;
  /** Files with old ids, which are not copied. */
  readonly stale: readonly string[];
}

/** Writes new ids into the files of a folder. */
export async function rewriteDocuments(
  { folder, decoder, file, tokenizerConfig }: TrimmingPlan,
  ids: RenumberedIds,
): Promise<RewrittenDocuments> {
  const { platform, root } = folder;
  const { files } = platform;
  const trimmed = trimTokenizer(file, ids);
  const documents: Record<string, JsonObject | string> = { [TOKENIZER]: trimmed };
  const updated = { ...folder.documents, ...documentsOf(folder, decoder.model) };
  for (const [name, document] of Object.entries(updated)) documents[name] = renumberDocument(document, ids);
  const { included } = await listSideFiles(files, folder, new Set(Object.keys(documents)));
  const stale: string[] = [];
  for (const path of included) {
    const rule = vocabularyFileOf(path, file);
    if (rule === undefined) continue;
    if (rule.kind === 'stale') stale.push(path);
    else if (rule.kind === 'text') documents[path] = rule.rewrite({ ids, file, trimmed });
    else {
      const document =
        path === 'tokenizer_config.json' ? tokenizerConfig : await readJsonFile(files, files.resolve(root, path));
      if (document !== undefined) documents[path] = rule.rewrite(document, { ids, file, trimmed });
    }
  }
  return { documents, stale };
}
