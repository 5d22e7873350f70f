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
  runTasks,
} from '../pipeline/calls.js';
import type { Platform } from '../platform/platform.js';

/** Calls that run a model, by their public names. */
export const MODEL_CALLS = {
  plan: runPlan,
  prune: runPrune,
  pruneLadder: runLadder,
  quantize: runQuantize,
  observe: runObserve,
  applyRecipe: runApply,
  heal: runHeal,
  describe: runDescribe,
  perplexity: runPerplexity,
  evaluateTasks: runTasks,
  logLikelihoods: runLogLikelihoods,
  generateText: runGeneration,
  evaluateModels: runEvaluation,
  measureCalibrationBias: runBias,
} as const;

type ModelCalls = typeof MODEL_CALLS;

export type ModelCall = keyof ModelCalls;
export type RequestOf<Call extends ModelCall> = Parameters<ModelCalls[Call]>[1];
export type AnswerOf<Call extends ModelCall> = Awaited<ReturnType<ModelCalls[Call]>>;

/** Makes a call on a platform. */
export function callHere<Call extends ModelCall>(
  platform: Platform,
  call: Call,
  request: RequestOf<Call>,
): Promise<AnswerOf<Call>> {
  const run = MODEL_CALLS[call] as (platform: Platform, request: RequestOf<Call>) => Promise<unknown>;
  return run(platform, request) as Promise<AnswerOf<Call>>;
}
