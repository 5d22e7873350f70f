import {
  runApply,
  runBias,
  runDescribe,
  runEvaluation,
  runGeneration,
  runHeal,
  runLadder,
  runLogLikelihoods,
  runObserve,
  runPerplexity,
  runPlan,
  runPrune,
  runQuantize,
  runReport,
  runShrink,
  runTasks,
  runTrimVocabulary,
} from '../pipeline/calls.js';
import type { Platform } from '../platform/platform.js';
import type { JobControl } from '../progress.js';
import { guardListener } from './guard-listener.js';

/** Calls that can be made in another process or thread, by their public names: those that run a model, and `rebuildReport`. */
export const MODEL_CALLS = {
  plan: runPlan,
  prune: runPrune,
  pruneLadder: runLadder,
  quantize: runQuantize,
  shrink: runShrink,
  observe: runObserve,
  applyRecipe: runApply,
  heal: runHeal,
  trimVocabulary: runTrimVocabulary,
  describe: runDescribe,
  perplexity: runPerplexity,
  evaluateTasks: runTasks,
  logLikelihoods: runLogLikelihoods,
  generateText: runGeneration,
  evaluateModels: runEvaluation,
  measureCalibrationBias: runBias,
  rebuildReport: runReport,
} as const;

type ModelCalls = typeof MODEL_CALLS;

export type ModelCall = keyof ModelCalls;
export type RequestOf<Call extends ModelCall> = Parameters<ModelCalls[Call]>[1];
export type AnswerOf<Call extends ModelCall> = Awaited<ReturnType<ModelCalls[Call]>>;

/** Makes a call on a platform. A listener that throws ends it, and is what it rejects with. */
export async function callHere<Call extends ModelCall>(
  platform: Platform,
  call: Call,
  request: RequestOf<Call>,
): Promise<AnswerOf<Call>> {
  const run = MODEL_CALLS[call] as (platform: Platform, request: RequestOf<Call>) => Promise<unknown>;
  const { onProgress, signal, ...given } = Object(request) as RequestOf<Call> & JobControl;
  const { release, ...control } = guardListener({ onProgress, signal });
  try {
    return (await run(platform, { ...given, ...control } as RequestOf<Call>)) as AnswerOf<Call>;
  } finally {
    release();
  }
}
