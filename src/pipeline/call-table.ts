import {
  APPLY,
  BIAS,
  CHOOSE,
  COMPARE,
  DESCRIBE,
  EVALUATE,
  GENERATE_TEXT,
  HEAL,
  LADDER,
  LOG_LIKELIHOOD,
  MERGE,
  OBSERVE,
  PERPLEXITY,
  PLAN_SHRINK,
  PRUNE,
  PUSH,
  QUANTIZE,
  REPORT,
  SHRINK,
  TASKS,
  TRIM_VOCABULARY,
} from '../options/commands.js';
import type { Families } from '../options/option.js';
import type { Platform } from '../runtime/platform.js';
import { runComparison } from './compare-evaluations.js';
import { runGeneration, runLogLikelihoods, runPerplexity, runTasks } from './evaluate-model.js';
import { runApply } from './run-apply.js';
import { runBias } from './run-bias.js';
import { runChoose } from './run-choose.js';
import { runDescribe } from './run-describe.js';
import { runEvaluation } from './run-evaluation.js';
import { runHeal } from './run-heal.js';
import { runMerge } from './run-merge.js';
import { runObserve } from './run-observe.js';
import { runPlan } from './run-plan.js';
import { runPlanShrink } from './run-plan-shrink.js';
import { runLadder, runPrune } from './run-prune.js';
import { runPush } from './run-push.js';
import { runQuantize } from './run-quantize.js';
import { runReport } from './run-report.js';
import { runShrink } from './run-shrink.js';
import { runTrimVocabulary } from './run-trim-vocabulary.js';

/** A public call. */
export interface CallRow {
  run(platform: Platform, request: never): Promise<unknown>;
  readonly options: Families;
  /** Whether it can run in a separate process or worker: its request can be plain data. */
  readonly isolated: boolean;
  /** Whether an interrupted call can be resumed from `<out>.partial`. */
  readonly resumable: boolean;
  readonly platforms: readonly ('node' | 'web')[];
}

/** Creates a row with a short type for the package's declarations. */
const call = <Run extends CallRow['run'], const Facts extends Omit<CallRow, 'run' | 'options'>>(
  run: Run,
  options: Families,
  facts: Facts,
): { readonly run: Run; readonly options: Families } & Facts => ({ run, options, ...facts });

const everywhere = { isolated: true, resumable: false, platforms: ['node', 'web'] } as const;
const resumable = { ...everywhere, resumable: true } as const;
const onNode = { isolated: false, resumable: false, platforms: ['node'] } as const;

/** The public calls by name: entries, workers, processes, the command line and the page of options are derived from these rows. */
export const CALLS = {
  prune: call(runPrune, PRUNE, resumable),
  pruneLadder: call(runLadder, LADDER, resumable),
  plan: call(runPlan, LADDER, everywhere),
  quantize: call(runQuantize, QUANTIZE, resumable),
  shrink: call(runShrink, SHRINK, resumable),
  planShrink: call(runPlanShrink, PLAN_SHRINK, everywhere),
  choose: call(runChoose, CHOOSE, resumable),
  observe: call(runObserve, OBSERVE, resumable),
  mergeStatistics: call(runMerge, MERGE, onNode),
  applyRecipe: call(runApply, APPLY, everywhere),
  heal: call(runHeal, HEAL, resumable),
  trimVocabulary: call(runTrimVocabulary, TRIM_VOCABULARY, resumable),
  describe: call(runDescribe, DESCRIBE, everywhere),
  perplexity: call(runPerplexity, PERPLEXITY, everywhere),
  evaluateTasks: call(runTasks, TASKS, everywhere),
  logLikelihoods: call(runLogLikelihoods, LOG_LIKELIHOOD, everywhere),
  generateText: call(runGeneration, GENERATE_TEXT, everywhere),
  evaluateModels: call(runEvaluation, EVALUATE, everywhere),
  measureCalibrationBias: call(runBias, BIAS, everywhere),
  rebuildReport: call(runReport, REPORT, { ...onNode, isolated: true }),
  compareFiles: call(runComparison, COMPARE, onNode),
  push: call(runPush, PUSH, onNode),
} as const satisfies Readonly<Record<string, CallRow>>;

type Calls = typeof CALLS;

export type CallName = keyof Calls;
export type RequestOf<Call extends CallName> = Parameters<Calls[Call]['run']>[1];
export type AnswerOf<Call extends CallName> = Awaited<ReturnType<Calls[Call]['run']>>;

/** Calls that can run in a separate process or worker. */
export type IsolatedCall = {
  [Call in CallName]: Calls[Call]['isolated'] extends true ? Call : never;
}[CallName];

/** Calls of a page. */
export type PageCall = {
  [Call in CallName]: 'web' extends Calls[Call]['platforms'][number] ? Call : never;
}[CallName];

/** Creates an object with a function for each selected call. */
export function mapCalls<Functions>(
  isSelected: (row: CallRow) => boolean,
  create: (call: CallName, row: CallRow) => unknown,
): Functions {
  const rows = (Object.keys(CALLS) as CallName[]).map((call) => [call, CALLS[call] as CallRow] as const);
  const selected = rows.filter(([, row]) => isSelected(row));
  return Object.fromEntries(selected.map(([call, row]) => [call, create(call, row)])) as Functions;
}
