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
