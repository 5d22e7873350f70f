import { FangPruneError } from '../errors.js';
import { adviseWidth, neighbouringWidths, type WidthAdvice, type WidthTiming } from '../evaluation/width-advice.js';
import { runDescribe } from '../pipeline/run-describe.js';
import type { JobControl } from '../progress.js';
import type { ModelDescription } from '../report/describe-model.js';
import type { ExecutionProviderChoice } from '../runtime/platform.js';
import type { SourceOptions } from '../storage/model-folder.js';
import { startWorker } from './bench-process.js';
import { nodePlatform } from './node-platform.js';

/** Timings of a model's FFN widths and neighbouring widths. */
export interface WidthProbes {
  readonly hiddenSize: number;
  readonly timings: readonly WidthTiming[];
  /** Widths that would be faster; empty when none is by much. */
  readonly advice: readonly WidthAdvice[];
}

export interface WidthProbeRequest extends JobControl, Pick<SourceOptions, 'offline'> {
  readonly model: string;
  readonly reference: string;
  readonly promptLength: number;
  readonly executionProvider?: ExecutionProviderChoice | undefined;
}

/** Quantiles of the blocks' widths that are timed. */
const QUANTILES = [0.25, 0.5, 0.75];

/** Repetitions of each width, alternating; the shortest time is used, since disturbances only add to it. */
const REPETITIONS = 5;

/** Largest weights of a probe in elements (256 MiB): larger FFNs take too long. */
const ELEMENT_LIMIT = 2 ** 26;

/**
 * Times neighbouring FFN widths in a separate process.
 * @returns undefined if there is nothing to time: widths equal the reference's, unknown structure, weights not in
 *   float32, or an FFN that is too large.
 */
export async function probeWidths(request: WidthProbeRequest): Promise<WidthProbes | undefined> {
  const description = await describeIfPossible(request.model, request);
  const reference = await describeIfPossible(request.reference, request);
  if (description === undefined || description.format.dataType !== 'float') return undefined;
  const widths = ffnWidths(description);
  if (widths.length === 0 || (reference && widths.join() === ffnWidths(reference).join())) return undefined;
  const { hiddenSize } = description;
  if (2 * hiddenSize * widths.at(-1)! > ELEMENT_LIMIT) return undefined;
  const chosen = [...new Set(QUANTILES.map((quantile) => widths[Math.round(quantile * (widths.length - 1))]!))];
  const timings = await timeWidths([...new Set(chosen.flatMap(neighbouringWidths))], { ...request, hiddenSize });
  const advice = chosen.flatMap((width) => adviseWidth(width, timings) ?? []);
  return { hiddenSize, timings, advice };
}

/** Widths of all blocks, ascending. */
function ffnWidths({ blocks }: ModelDescription): number[] {
  const ffns = blocks.flatMap(({ modules }) => modules.filter(({ kind }) => kind === 'ffn'));
  return ffns.flatMap(({ width }) => width ?? []).sort((a, b) => a - b);
}

async function describeIfPossible(
  model: string,
  { offline, executionProvider, signal }: WidthProbeRequest,
): Promise<ModelDescription | undefined> {
  try {
    return await runDescribe(nodePlatform, { model, offline, executionProvider, signal });
  } catch (error) {
    // A model that cannot be pruned can still be measured.
    if (error instanceof FangPruneError) return undefined;
    throw error;
  }
}

async function timeWidths(
  widths: readonly number[],
  { hiddenSize, promptLength, executionProvider, signal }: WidthProbeRequest & { readonly hiddenSize: number },
): Promise<WidthTiming[]> {
  const worker = startWorker(signal);
  try {
    const rounds: WidthTiming[][] = [];
    for (let repetition = 0; repetition < REPETITIONS; repetition++) {
      const round: WidthTiming[] = [];
      for (const width of widths) {
        round.push({ width, ...(await worker.send('probe', { hiddenSize, width, promptLength, executionProvider })) });
      }
      rounds.push(round);
    }
    return widths.map((width, at) => ({
      width,
      prefillMs: Math.min(...rounds.map((round) => round[at]!.prefillMs)),
      decodeMs: Math.min(...rounds.map((round) => round[at]!.decodeMs)),
    }));
  } finally {
    await worker.stop();
  }
}
