import { ModelFormatError } from '../errors.js';
import { measureModel } from '../onnx/save-model.js';
import { TRIM_VOCABULARY } from '../options/commands.js';
import { checkOptions, refusal, rowsOf } from '../options/option.js';
import type { VocabularyOptions } from '../options/vocabulary.js';
import type { Platform } from '../platform/platform.js';
import type { StageTiming } from '../prune/job.js';
import { checkShape } from '../report/check-report.js';
import { formatJson } from '../report/format-json.js';
import type { BeforeAfter, SideFilesReport } from '../report/report-schema.js';
import { listOf, number, text, withFields } from '../report/shape.js';
import type { Engine } from '../runtime/engine.js';
import { type ModelFolder, type ModelRequest, modelPaths, TOKENIZER, totalBytes } from '../storage/model-folder.js';
import { type JsonObject, readJsonFile } from '../storage/read-json.js';
import { listSideFiles } from '../storage/side-files.js';
import { writeText } from '../storage/write-file.js';
import type { TokenCounts } from '../vocabulary/choose-tokens.js';
import { cutVocabulary } from '../vocabulary/cut-vocabulary.js';
import { type RenumberedIds, renumberIds } from '../vocabulary/renumbered-ids.js';
import { renumberDocument } from '../vocabulary/token-ids-in-documents.js';
import { trimTokenizer } from '../vocabulary/trim-tokenizer.js';
import { vocabularyFileOf } from '../vocabulary/vocabulary-files.js';
import { type JobContext, withJob } from './job-context.js';
import { isFinished, mayBeKept, withJournal } from './kept-run.js';
import { documentsOf, hashSaved, reportSideFiles } from './result-facts.js';
import { keyAt, runKey } from './run-key.js';
import { STAGES } from './stages.js';
import { certifyTrimming, type TrimmingCertificate } from './vocabulary/certify-trimming.js';
import { planTrimming, type TrimmingPlan } from './vocabulary/plan-trimming.js';
import { checkVocabularyOptions } from './vocabulary/read-token-selection.js';

/** A model whose vocabulary is to be trimmed. */
export interface TrimVocabularyRequest extends ModelRequest, VocabularyOptions {
  /** Folder to be made; may be left out for a dry run. */
  readonly out?: string | undefined;
  /** Replace `out` where it is empty, or holds nothing but what an earlier run wrote. Default false. */
  readonly force?: boolean | undefined;
  /** Choose the tokens and tell the sizes, but write no model. Default false. */
  readonly dryRun?: boolean | undefined;
  /** Compare the logits of what was written with the original's. Default true. */
  readonly certify?: boolean | undefined;
  /** Take the result that the same call has made, where it is whole. Default true. */
  readonly resume?: boolean | undefined;
}

/** What was trimmed. */
export interface VocabularyReport {
  /** Rows of the vocabulary: those of the tokenizer's tokens and of the padding behind them. */
  readonly rows: BeforeAfter;
  /** Tokens of the tokenizer, added ones included. */
  readonly tokens: BeforeAfter;
  /** Tokens that stay, by why. */
  readonly reasons: TokenCounts;
  /** Merges of BPE; absent for other tokenizers. */
  readonly merges?: BeforeAfter;
  /** Bytes of the model and, where it has one, the embedding model, external data included. */
  readonly bytes: BeforeAfter;
  /** Weights that were cut. */
  readonly tables: readonly { readonly name: string; readonly rows: BeforeAfter; readonly bytes: BeforeAfter }[];
}

/** A model with a trimmed vocabulary. */
export interface TrimmedVocabulary extends VocabularyReport {
  readonly model: string;
  /** Absent for a dry run. */
  readonly out?: string;
  /** SHA-256 of the model file and its external data, as they were written. */
  readonly sha256?: string;
  readonly certificate?: TrimmingCertificate;
  /** What lay beside the model; absent for a result that was there already. */
  readonly sideFiles?: SideFilesReport;
  readonly timings: readonly StageTiming[];
  readonly remarks: readonly string[];
}

/** Says how a vocabulary was trimmed, in the folder; `vocabulary` reads it to trim alike. */
export const VOCABULARY_FILE = 'fang-prune-vocabulary.json';

/** Open; choose the tokens; cut graphs, tokenizer and documents; save; certify. */
export async function runTrimVocabulary(
  platform: Platform,
  request: TrimVocabularyRequest,
): Promise<TrimmedVocabulary> {
  checkOptions(request, rowsOf(TRIM_VOCABULARY));
  checkVocabularyOptions(request);
  const { model, embeddings, offline, out, force = false, resume = true, dryRun = false, signal } = request;
  if (out === undefined && !dryRun) throw refusal('out', 'is missing; expected a folder, or dryRun');
  const output = dryRun ? undefined : out;
  return withJob(platform, request, async (whole) => {
    const folder = await STAGES.open.run(whole, { model, embeddings, offline });
    const check = async () => {
      if (output !== undefined) await platform.files.checkOutput({ output, source: folder.root, force });
    };
    const mayGoOn = output !== undefined && resume && (await mayBeKept(whole, output, [{ out: output }]));
    if (!mayGoOn) await check();
    const plan = await planTrimming(whole, folder, request);
    const engine = await platform.createEngine(request);
    // The tokens stand for whatever files they were chosen by.
    const { vocabulary: _, texts: __, ...settings } = request;
    const keyed = { ...settings, kept: plan.chosen.keep };
    const key =
      output === undefined
        ? undefined
        : await runKey(platform, keyed, {
            folders: [folder],
            engine,
            call: 'trimVocabulary',
            signal,
            onProgress: whole.onProgress,
          });
    return withJournal(whole, { output, key, resume }, async (context) => {
      const isDone = resume && !force && (await isFinished(context, { out: output, sparsities: [] }));
      // Another run may have made it since.
      if (!isDone) await check();
      const made = isDone
        ? await readTrimmed(context, output!)
        : await trimFolder(context, plan, { ...request, engine });
      return {
        ...{ model, ...(output !== undefined && { out: output }), ...made },
        timings: context.timings,
        remarks: [...context.remarks, ...context.notes],
      };
    });
  });
}

type MadeFolder = VocabularyReport & Pick<TrimmedVocabulary, 'sha256' | 'certificate' | 'sideFiles'>;

const beforeAfter = withFields({ before: number, after: number });

const TRIMMED = withFields({
  rows: beforeAfter,
  tokens: beforeAfter,
  reasons: withFields({ always: number, text: number, chosen: number, parts: number }),
  bytes: beforeAfter,
  tables: listOf(withFields({ name: text, rows: beforeAfter, bytes: beforeAfter })),
  sha256: text,
});

async function readTrimmed({ platform: { files } }: JobContext, out: string): Promise<MadeFolder> {
  const file = files.resolve(out, VOCABULARY_FILE);
  const found = await readJsonFile(files, file);
  if (found === undefined)
    throw new ModelFormatError(`${out} has lost its ${VOCABULARY_FILE}. Trim it again with force.`);
  checkShape(found, TRIMMED, { file, remedy: 'Trim it again with force.' });
  const { kept: _, ...made } = found;
  return made as unknown as MadeFolder;
}

/** Cuts the graphs, and writes the folder where one is asked for. */
async function trimFolder(
  context: JobContext,
  plan: TrimmingPlan,
  { out, dryRun = false, force = false, certify = true, engine }: TrimVocabularyRequest & { readonly engine: Engine },
): Promise<MadeFolder> {
  const { platform, remarks, run, workspace } = context;
  const { files } = platform;
  const { folder, decoder, parts, chosen } = plan;
  const ids = renumberIds(chosen.keep);
  if (chosen.addedToList > 0)
    remarks.push(
      `${chosen.addedToList} tokens stay that the list lacks: bytes or single characters, special and added tokens, those of the chat template and of the configuration`,
    );
  if (chosen.filledUp > 0)
    remarks.push(
      `${chosen.filledUp} tokens more stay, so that the LM head has a multiple of 4 rows: kernels for quantised weights keep every bit then`,
    );
  const graphs = [decoder, ...parts.values()];
  const before = graphs.flatMap(({ model, trace }) => sizesOf(model, trace));
  for (const { model, trace } of graphs) cutVocabulary(model, trace, ids);
  const report = await reportTrimming(plan, ids, before);
  if (dryRun || out === undefined) return report;
  const { documents, stale } = await rewriteDocuments(plan, ids);
  if (stale.length > 0)
    remarks.push(`left out, since they hold the tokens that went: ${stale.join(', ')}; tokenizer.json stands for them`);
  const output = { output: out, source: folder.root, force, workspace, run: keyAt(platform, run, []) };
  return files.buildFolder(output, async (partial) => {
    const saved = await STAGES.save.run(context, {
      ...{ model: decoder.model, source: folder, documents, folder: partial, stale },
      parts: new Map([...parts].map(([path, { model }]) => [path, model])),
    });
    const sha256 = await hashSaved(context, partial, saved);
    const { keep } = chosen;
    const certificate = certify
      ? await certifyTrimming(context, { folder, written: partial, engine, keep })
      : undefined;
    const made = { ...report, sha256, ...(certificate && { certificate }) };
    await writeText(files, files.resolve(partial, VOCABULARY_FILE), formatJson({ ...made, kept: [...keep] }));
    for (const graph of graphs) await graph.checkUnchanged();
    return { ...made, sideFiles: reportSideFiles(saved) };
  });
}

interface TableSize {
  readonly model: TrimmingPlan['decoder']['model'];
  readonly name: string;
  readonly rows: number;
  readonly byteLength: number;
}

const sizesOf = (
  model: TrimmingPlan['decoder']['model'],
  { tables }: TrimmingPlan['decoder']['trace'],
): readonly TableSize[] =>
  [...tables.values()].map(({ name, rows }) => ({
    model,
    name,
    rows,
    byteLength: model.weights.get(name)!.byteLength,
  }));

/** What was trimmed, of graphs that were cut. */
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
  const kept = file.merges.filter(({ left, right, result }) =>
    [left, right, result].every((id) => ids.newId(id) !== undefined),
  );
  return {
    rows: { before: rows, after: ids.countBelow(rows) },
    tokens: {
      before: file.contents.filter((content) => content !== undefined).length,
      after: chosen.keep.reduce((count, id) => count + (file.contents[id] === undefined ? 0 : 1), 0),
    },
    reasons: chosen.counts,
    ...(file.merges.length > 0 && { merges: { before: file.merges.length, after: kept.length } }),
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

/** Files of the folder with new ids, and those that would name old ones. */
async function rewriteDocuments(
  { folder, decoder, file, tokenizerConfig }: TrimmingPlan,
  ids: RenumberedIds,
): Promise<{ readonly documents: Record<string, JsonObject | string>; readonly stale: readonly string[] }> {
  const { platform, root } = folder;
  const { files } = platform;
  const trimmed = trimTokenizer(file, ids);
  const documents: Record<string, JsonObject | string> = { [TOKENIZER]: trimmed };
  const mended = { ...folder.documents, ...documentsOf(folder, decoder.model, []) };
  for (const [name, document] of Object.entries(mended)) documents[name] = renumberDocument(document, ids);
  const { kept } = await listSideFiles(files, folder, new Set(Object.keys(documents)));
  const stale: string[] = [];
  for (const path of kept) {
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
