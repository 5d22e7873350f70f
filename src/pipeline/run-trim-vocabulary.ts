import { ModelFormatError } from '../errors.js';
import { TRIM_VOCABULARY } from '../options/commands.js';
import { anyText, withFields } from '../options/kinds.js';
import { checkOptions, type OptionsOf, refusal, rowsOf } from '../options/option.js';
import type { TRIM_RESULT } from '../options/single-calls.js';
import type { VocabularyOptions } from '../options/vocabulary.js';
import { checkFields } from '../report/check-report.js';
import { formatJson } from '../report/format-json.js';
import { VOCABULARY } from '../report/measurement-kinds.js';
import type { SideFilesReport, TrimmingCertificate, VocabularyReport } from '../report/report-schema.js';
import type { Engine } from '../runtime/engine.js';
import type { Platform } from '../runtime/platform.js';
import type { ModelRequest } from '../storage/model-folder.js';
import { readJsonFile } from '../storage/read-json.js';
import { writeText } from '../storage/write-file.js';
import { cutGraphs, remarkStale, remarkTokens, rewriteDocuments } from './apply-trimming.js';
import { certifyWritten } from './certify-trimming.js';
import type { JobContext } from './job-context.js';
import { planTrimming, type TrimmingPlan } from './plan-trimming.js';
import { checkVocabularyOptions } from './read-token-selection.js';
import { hashSaved, reportSideFiles } from './result-facts.js';
import {
  buildOutput,
  figuresOf,
  isFinished,
  type OpenedModels,
  type RunFigures,
  runResumable,
} from './resumable-job.js';
import { VOCABULARY_FILE } from './stage-save.js';
import type { Stages, StagesOption } from './stages.js';

/** A model and a token selection. */
export interface TrimVocabularyRequest
  extends ModelRequest,
    VocabularyOptions,
    StagesOption,
    OptionsOf<typeof TRIM_RESULT> {
  /** Return the complete result of an earlier equal call. Default true. */
  readonly resume?: boolean | undefined;
}

/** A model with a trimmed vocabulary. */
export interface TrimmedVocabulary extends VocabularyReport, RunFigures {
  readonly model: string;
  /** Absent for a dry run. */
  readonly out?: string;
  /** SHA-256 of the written model file and its external data. */
  readonly sha256?: string;
  readonly certificate?: TrimmingCertificate;
  /** Files next to the model; absent for an existing result. */
  readonly sideFiles?: SideFilesReport;
}

/** Opens, selects tokens, trims graphs, tokenizer and documents; saves and certifies. */
export async function runTrimVocabulary(
  platform: Platform,
  request: TrimVocabularyRequest,
): Promise<TrimmedVocabulary> {
  checkOptions(request, rowsOf(TRIM_VOCABULARY));
  checkVocabularyOptions(request);
  const { model, embeddings, offline, out, dryRun = false } = request;
  if (out === undefined && !dryRun) throw refusal('out', 'is missing; expected a folder, or dryRun');
  const output = dryRun ? undefined : out;
  return runResumable<OpenedModels, TrimmingPlan, TrimmedResult, TrimmedVocabulary>(platform, {
    call: 'trimVocabulary',
    request,
    output,
    open: async (context, stages) => ({ folders: [await stages.open.run(context, { model, embeddings, offline })] }),
    prepare: (context, { folders: [folder] }) => planTrimming(context, folder!, request),
    keyValues({ chosen }) {
      // The key contains the selected tokens instead of their source files.
      const { vocabulary: _, texts: __, ...settings } = request;
      return { ...settings, kept: chosen.keep };
    },
    find: async (context) => ((await isFinished(context, output)) ? readTrimmed(context, output!) : undefined),
    async make(context, { found, prepared, engine, stages }) {
      const written = found ?? (await trimFolder(context, prepared, { ...request, engine, stages }));
      return { model, ...(output !== undefined && { out: output }), ...written, ...figuresOf(context) };
    },
  });
}

type TrimmedResult = VocabularyReport & Pick<TrimmedVocabulary, 'sha256' | 'certificate' | 'sideFiles'>;

const TRIMMED = withFields({ sha256: anyText });

async function readTrimmed({ platform: { files } }: JobContext, out: string): Promise<TrimmedResult> {
  const file = files.resolve(out, VOCABULARY_FILE);
  const found = await readJsonFile(files, file);
  if (found === undefined)
    throw new ModelFormatError(`${out} has lost its ${VOCABULARY_FILE}. Trim it again with force.`);
  for (const kind of [VOCABULARY, TRIMMED]) checkFields(found, kind, { file, remedy: 'Trim it again with force.' });
  const { kept: _, ...written } = found;
  return written as unknown as TrimmedResult;
}

interface Started {
  readonly engine: Engine;
  readonly stages: Stages;
}

/** Trims the graphs, and writes the folder if requested. */
async function trimFolder(
  context: JobContext,
  plan: TrimmingPlan,
  { out, dryRun = false, force = false, certify = true, engine, stages }: TrimVocabularyRequest & Started,
): Promise<TrimmedResult> {
  const { platform, remarks } = context;
  const { files } = platform;
  const { folder, decoder, parts, chosen } = plan;
  remarks.push(...remarkTokens(plan));
  const { ids, report } = await cutGraphs(plan);
  if (dryRun || out === undefined) return report;
  await files.checkOutput({ output: out, source: folder.root, force, byteLength: report.bytes.after });
  const { documents, stale } = await rewriteDocuments(plan, ids);
  remarks.push(...remarkStale(stale));
  return buildOutput(context, { out, source: folder, force }, async (partial) => {
    const saved = await stages.save.run(context, {
      model: decoder.model,
      source: folder,
      documents,
      folder: partial,
      stale,
      parts: new Map([...parts].map(([path, { model }]) => [path, model])),
    });
    const sha256 = await hashSaved(context, partial, saved);
    const { keep } = chosen;
    const certificate = certify ? await certifyWritten(context, { folder, written: partial, engine, keep }) : undefined;
    const written = { ...report, sha256, ...(certificate && { certificate }) };
    await writeText(files, files.resolve(partial, VOCABULARY_FILE), formatJson({ ...written, kept: [...keep] }));
    for (const graph of [decoder, ...parts.values()]) await graph.checkUnchanged();
    return { ...written, sideFiles: reportSideFiles(saved) };
  });
}
