import type { Command } from 'commander';
import type { Evaluation, ModelComparison } from '../node.js';
import type { JobControl } from '../progress.js';
import type { CliApi } from './api.js';
import { type CommandContext, modelRequest, type SharedOptions, withSharedOptions } from './command-context.js';
import { formatComparisons } from './format-comparisons.js';
import { formatEvaluations, type ShownEvaluation } from './format-evaluations.js';
import { InterruptedError } from './interrupted-error.js';
import { collect, parseCount, parseNumber } from './option-parsers.js';
import { runJob } from './run-job.js';

interface EvalFlags extends SharedOptions {
  readonly text?: readonly string[];
  readonly windowLength?: number;
  readonly stride?: number;
  readonly windows?: number;
  readonly reference?: string;
  readonly tasks?: readonly string[];
  readonly limit?: number;
  readonly bos?: boolean;
  readonly resume?: string;
  readonly compare?: boolean;
  readonly generate?: string;
  readonly maxNewTokens?: number;
  readonly temperature?: number;
  readonly seed?: number;
}

interface EvalResult {
  readonly models: readonly ShownEvaluation[];
  readonly comparisons?: readonly ModelComparison[];
}

/** Adds `eval <models...>`. */
export function addEvalCommand(program: Command, context: CommandContext): void {
  const command = program
    .command('eval')
    .description('measure perplexity and tasks and write sample text, one model or several side by side')
    .argument('<models...>', 'folders or .onnx files')
    .option('-t, --text <file>', 'text to measure perplexity on; may be repeated', collect)
    .option('--window-length <tokens>', 'tokens per window', parseCount)
    .option('--stride <tokens>', 'tokens from one window to the next', parseCount)
    .option('--windows <count>', 'windows to measure, from the start of the text', parseCount)
    .option('--reference <model>', 'also measure how far the models are from this one on the texts')
    .option('--tasks <file>', 'items to answer, JSONL as lm-evaluation-harness has them; may be repeated', collect)
    .option('--limit <count>', 'items of each task, from the first', parseCount)
    .option('--bos', "start every window and item with the model's first token")
    .option('--resume <file>', 'keep scores in this file, and go on from it when it exists')
    .option('--compare', 'tell whether the models differ from the first by more than noise')
    .option('--generate <prompt>', 'let each model continue a prompt')
    .option('--max-new-tokens <count>', 'tokens to write', parseCount)
    .option('--temperature <number>', '0 takes the likeliest token each time (default 0)', parseNumber)
    .option('--seed <number>', 'seed of the sampling and of comparisons (default 0)', parseCount);
  withSharedOptions(command).action(async (models: string[], flags: EvalFlags) => {
    const misuse = findMisuse(models, flags);
    if (misuse !== undefined) command.error(`error: ${misuse}`);
    const api = await context.loadApi();
    await runJob(context, flags, {
      job: (control) => evaluate(api, models, { flags, control }),
      format: ({ models: shown, comparisons }) =>
        [
          formatEvaluations(shown, context.terminal.colors),
          ...(comparisons ? [formatComparisons(comparisons, context.terminal.colors)] : []),
        ].join('\n'),
    }).catch((error: unknown) => {
      if (!context.signal.aborted || flags.resume === undefined) throw error;
      throw new InterruptedError(`interrupted; run the same command again to go on from ${flags.resume}`);
    });
  });
}

/** What is missing for the flags to make sense. */
function findMisuse(models: readonly string[], flags: EvalFlags): string | undefined {
  if (!flags.text && !flags.tasks && flags.generate === undefined) {
    return "say what to measure with '--text FILE', '--tasks FILE', '--generate PROMPT', or several of them";
  }
  if (flags.reference !== undefined && !flags.text) return "'--reference MODEL' needs a '--text FILE' to compare on";
  if (flags.compare && (models.length < 2 || !flags.tasks)) return "'--compare' needs two models and '--tasks FILE'";
  return undefined;
}

interface EvaluationTask {
  readonly flags: EvalFlags;
  readonly control: JobControl;
}

async function evaluate(api: CliApi, models: readonly string[], task: EvaluationTask): Promise<EvalResult> {
  const { flags } = task;
  const evaluations = await measure(api, models, task);
  const shown: ShownEvaluation[] = [];
  for (const evaluation of evaluations) shown.push({ ...evaluation, ...(await write(api, evaluation.model, task)) });
  if (!flags.compare) return { models: shown };
  return { models: shown, comparisons: api.compareEvaluations(evaluations, given('seed', flags.seed)) };
}

async function measure(
  api: CliApi,
  models: readonly string[],
  { flags, control }: EvaluationTask,
): Promise<readonly Evaluation[]> {
  const { text: texts, tasks, embeddings, executionProvider } = flags;
  if (!texts && !tasks) return models.map((model) => ({ model, perplexity: [], divergence: [], tasks: [] }));
  return api.evaluateModels({
    models,
    ...control,
    ...given('embeddings', embeddings),
    ...given('executionProvider', executionProvider),
    ...given('texts', texts),
    ...given('windowLength', flags.windowLength),
    ...given('stride', flags.stride),
    ...given('windowCount', flags.windows),
    ...given('bos', flags.bos),
    ...given('reference', flags.reference),
    ...given('tasks', tasks),
    ...given('limit', flags.limit),
    ...given('resume', flags.resume),
  });
}

async function write(api: CliApi, model: string, { flags, control }: EvaluationTask) {
  if (flags.generate === undefined) return {};
  const generation = await api.generateText({
    ...modelRequest(model, flags, control),
    ...given('maxNewTokens', flags.maxNewTokens),
    ...given('temperature', flags.temperature),
    ...given('seed', flags.seed),
    prompt: flags.generate,
  });
  return { generation };
}

function given<K extends string, V>(name: K, value: V | undefined): Partial<Record<K, V>> {
  return value === undefined ? {} : ({ [name]: value } as Record<K, V>);
}
