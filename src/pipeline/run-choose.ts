import { resolveWindows } from '../evaluation/scored-windows.js';
import { sum } from '../linalg/sum.js';
import { omit } from '../omit.js';
import { CHOOSE } from '../options/commands.js';
import { fractionOf } from '../options/kinds.js';
import { ENGINE, JOB } from '../options/model.js';
import { type Checked, checkOptions, type OptionsOf, pickOptions, rowsOf } from '../options/option.js';
import { resolveShrink, sizeName } from '../options/shrink.js';
import type { CHOICE } from '../options/single-calls.js';
import { READING } from '../options/texts.js';
import type { JobControl, Progress } from '../progress.js';
import type { PruneReport } from '../report/report-schema.js';
import type { Platform } from '../runtime/platform.js';
import { requireTokenizer } from '../storage/load-tokenizer.js';
import { checkCalibrationFiles } from './check-output-paths.js';
import { withJob } from './job-context.js';
import { rungFolder } from './ladder-rungs.js';
import { readTexts } from './read-texts.js';
import { runEvaluation } from './run-evaluation.js';
import { runPlanShrink } from './run-plan-shrink.js';
import { runQuantize } from './run-quantize.js';
import {
  checkShrink,
  readsText,
  runShrink,
  type ShrinkRequest,
  TOKEN_OPTIONS,
  usesText,
  vocabularyOf,
} from './run-shrink.js';
import { open } from './stage-open.js';
import { windowOptions } from './text-windows.js';
import { timeModels } from './time-models.js';
import { withTextContext } from './with-text-context.js';

/** A model to make in several sizes. */
export interface ChooseRequest
  extends Omit<
      ShrinkRequest,
      | 'targetMemory'
      | 'contextLength'
      | 'dryRun'
      | 'report'
      | 'quoteText'
      | 'reportPaths'
      | 'recipe'
      | 'evaluation'
      | 'layout'
      | 'stopHealing'
    >,
    OptionsOf<typeof CHOICE> {
  /** Folder for the results: `q8`, `q4`, and a folder per size. */
  readonly out: string;
  /** Your calibration text, `.txt` or `.jsonl`. */
  readonly text: string;
}

/** A measured model. */
export interface MeasuredChoice {
  /** `dense`, `q8`, `q4`, or the requested size. */
  readonly name: string;
  /** Its folder, or the dense model as given. */
  readonly model: string;
  /** Model file with its external data. */
  readonly bytes: number;
  /** Bits per byte of the test text. */
  readonly bitsPerByte: number;
  /** Median decoding speed after the prompt. */
  readonly tokensPerSecond: number;
  /** Time to first token. */
  readonly firstTokenMs: number;
}

/** Measurements, the dense model first, and the recommendation. */
export interface Choice {
  /** Models in order of creation. */
  readonly models: readonly MeasuredChoice[];
  /** Name of the recommended model. */
  readonly recommended: string;
  /** Tokens of the timed prompt. */
  readonly promptLength: number;
}

/** Default sizes as fractions of q4, or of the dense model without bits. */
const SHARES = [0.9, 0.8];

/** Makes a model in q8, q4 and several sizes, measures quality and speed of all, and recommends one. */
export async function runChoose(platform: Platform, chosen: ChooseRequest): Promise<Choice> {
  const request = checkOptions(chosen, rowsOf(CHOOSE));
  const { text, test = text, mostLoss = CHOOSE.Choice.mostLoss.default, ...given } = request;
  const { model, out, allow, targetSize, calibration, embeddings, offline, bos, engine } = given;
  const shrinkOptions = shrinkOptionsOf(request);
  checkShrink({ ...shrinkOptions, targetSize: targetSize ?? ANY_SIZE });
  for (const file of [text, test]) await checkCalibrationFiles(platform.files, { source: { file } });
  const measured = await readTexts(platform.files, test);
  const shared = omit(given, 'allow', 'dtypes', 'heal', 'targetSize', 'calibration', ...TOKEN_OPTIONS);
  const control = stepControls(request);
  await withJob(platform, control('check'), async (context) => {
    const folder = await open.run(context, { model, embeddings, offline, bos });
    const tokenizer = await requireTokenizer(folder, 'measuring bits per byte');
    const windows = await windowOptions({}, tokenizer, [folder]);
    await withTextContext(test, async () => resolveWindows(windows, tokenizer.encode(measured).length));
  });
  const trimmed = vocabularyOf({ ...given, text });
  const shrinkTo = (targetSize: ShrinkRequest['targetSize']) =>
    runShrink(platform, { ...shrinkOptions, ...control('shrink'), targetSize: [targetSize ?? []].flat() });
  const quantiseTo = (dtype: 'q8' | 'q4') =>
    runQuantize(
      platform,
      {
        ...shared,
        ...control(dtype, dtype),
        dtype,
        out: rungFolder(out, { sparsity: 0, name: dtype }),
        // Rounding to eight bits needs no calibration.
        ...(dtype === 'q4' && { calibration: { ...calibration, source: { file: text } } }),
      },
      trimmed,
    );
  // Refuses sizes that cannot be reached and texts that are too short, before any other model is written.
  const requested = targetSize === undefined ? undefined : await shrinkTo(targetSize);
  const q4 = await quantiseTo('q4');
  const q8 = await quantiseTo('q8');
  const smallestSize = async () =>
    (await runPlanShrink(platform, { ...omit(shrinkOptions, 'targetSize'), ...control('plan') })).smallest.bytes;
  const sizes =
    targetSize === undefined ? defaultSizes({ allow }, [q8, q4], await smallestSize()) : [targetSize].flat();
  const sized = requested ?? (sizes.length === 0 ? [] : await shrinkTo(sizes));
  const reports: readonly PruneReport[] = [q8, q4, ...sized];
  const models = [model, ...reports.flatMap((report) => report.out ?? [])];
  const reading = pickOptions(given, READING_MODELS);
  const evaluations = await runEvaluation(platform, { ...reading, ...control('evaluate'), models, texts: [test] });
  const speeds = await withJob(platform, control('time'), async (context) => {
    const folders = [];
    for (const each of models) folders.push(await open.run(context, { model: each, embeddings, offline }));
    const started = await platform.createEngine(reading);
    // ONNX Runtime chooses the threads, as for users.
    const isDefault = engine === undefined && started.threads !== undefined;
    return timeModels(context, isDefault ? await platform.createEngine({ ...reading, threads: 0 }) : started, folders);
  });
  const names = ['dense', 'q8', 'q4', ...sizes.map(sizeName)];
  const bytes = [q8.bytes.before, ...reports.map((report) => report.bytes.after)];
  const choices = models.map(
    (each, at): MeasuredChoice => ({
      name: names[at]!,
      model: each,
      bytes: bytes[at]!,
      bitsPerByte: evaluations[at]?.perplexity[0]?.bitsPerByte ?? Number.NaN,
      tokensPerSecond: speeds.models[at]!.tokensPerSecond,
      firstTokenMs: speeds.models[at]!.promptMs,
    }),
  );
  const recommended = recommend(choices, fractionOf(mostLoss)).name;
  return { models: choices, recommended, promptLength: speeds.promptLength };
}

/** Options of opening and running any of the models. */
const READING_MODELS = { ...ENGINE, engine: JOB.engine, bos: READING.bos };

/** Options of `shrink`, which refuses calibration options without effect: here they calibrate q4 too. */
function shrinkOptionsOf({
  text,
  test: _test,
  mostLoss: _mostLoss,
  ...given
}: Checked<ChooseRequest>): Checked<ShrinkRequest> {
  const shrink = resolveShrink({ ...given, targetSize: given.targetSize ?? ANY_SIZE });
  const reductions = readsText(shrink) ? given : omit(given, 'calibration');
  return usesText(given, shrink) ? { ...reductions, text } : reductions;
}

/** Placeholder size for checks. */
const ANY_SIZE = '1GB';

/**
 * Default sizes: one between q8 and q4, and two below; without bits, two below the dense model. Those that the reductions
 * cannot reach are left out.
 */
export function defaultSizes(
  { allow }: Pick<ShrinkRequest, 'allow'>,
  [q8, q4]: readonly [Pick<PruneReport, 'bytes'>, Pick<PruneReport, 'bytes'>],
  smallest: number,
): readonly number[] {
  const below = (bytes: number) => SHARES.map((share) => Math.round(share * bytes));
  const between = Math.round(Math.sqrt(q8.bytes.after * q4.bytes.after));
  const mayRound = allow === undefined || allow.includes('bits');
  const sizes = mayRound ? [between, ...below(q4.bytes.after)] : below(q8.bytes.before);
  return sizes.filter((size) => size >= smallest);
}

/** The smallest model within the allowed loss, else the one with the least loss. */
export function recommend(models: readonly MeasuredChoice[], mostLoss: number): MeasuredChoice {
  const [dense, ...others] = models as readonly [MeasuredChoice, ...MeasuredChoice[]];
  const acceptable = others.filter(({ bitsPerByte }) => bitsPerByte <= dense.bitsPerByte * (1 + mostLoss));
  if (acceptable.length > 0) return acceptable.reduce((a, b) => (b.bytes < a.bytes ? b : a));
  return others.reduce((a, b) => (b.bitsPerByte < a.bitsPerByte ? b : a), others[0] ?? dense);
}

/** Shares of the steps in the total time. */
const STEPS = { check: 0, plan: 0, shrink: 10, q4: 2, q8: 1, evaluate: 2, time: 2 } as const;

/** Progress control per step: the step's `overall` is scaled to its share of the total. */
function stepControls({ onProgress, signal }: JobControl) {
  const all = sum(Object.values(STEPS));
  let done = 0;
  return (step: keyof typeof STEPS, name?: string): JobControl => {
    const before = done;
    done += STEPS[step];
    const listener = ({ remainingMs: _, overall = 0, detail = name, ...progress }: Progress) =>
      onProgress?.({
        ...progress,
        ...(detail !== undefined && { detail }),
        overall: (before + STEPS[step] * overall) / all,
      });
    return { onProgress: onProgress && listener, signal };
  };
}
