import type { Command } from 'commander';
import type { PerplexityResult } from '../evaluation/perplexity.js';
import type { GenerationSample } from '../node/evaluate-folder.js';
import type { JobControl } from '../progress.js';
import type { CliApi } from './api.js';
import { type CommandContext, modelRequest, type SharedOptions, withSharedOptions } from './command-context.js';
import { formatTable } from './format-table.js';
import { collect, parseCount, parseNumber } from './option-parsers.js';
import { runJob } from './run-job.js';
import type { Colors } from './terminal.js';

interface EvalFlags extends SharedOptions {
  readonly text?: readonly string[];
  readonly windowLength?: number;
  readonly stride?: number;
  readonly windows?: number;
  readonly bos?: boolean;
  readonly generate?: string;
  readonly maxNewTokens?: number;
  readonly temperature?: number;
  readonly seed?: number;
}

interface Evaluation {
  readonly model: string;
  readonly perplexity: readonly ({ readonly text: string } & PerplexityResult)[];
  readonly generation?: GenerationSample;
}

/** Adds `eval <models...>`. */
export function addEvalCommand(program: Command, context: CommandContext): void {
  const command = program
    .command('eval')
    .description('measure perplexity and write sample text, one model or several side by side')
    .argument('<models...>', 'folders or .onnx files')
    .option('-t, --text <file>', 'text to measure perplexity on; may be repeated', collect)
    .option('--window-length <tokens>', 'tokens per window', parseCount)
    .option('--stride <tokens>', 'tokens from one window to the next', parseCount)
    .option('--windows <count>', 'windows to measure, from the start of the text', parseCount)
    .option('--bos', "start every window with the model's first token")
    .option('--generate <prompt>', 'let each model continue a prompt')
    .option('--max-new-tokens <count>', 'tokens to write', parseCount)
    .option('--temperature <number>', '0 takes the likeliest token each time (default 0)', parseNumber)
    .option('--seed <number>', 'seed of the sampling (default 0)', parseCount);
  withSharedOptions(command).action(async (models: string[], flags: EvalFlags) => {
    if (!flags.text && flags.generate === undefined) {
      command.error("error: say what to measure with '--text FILE', '--generate PROMPT', or both");
    }
    const api = await context.loadApi();
    await runJob(context, flags, {
      job: async (control) => ({ models: await evaluateAll(api, models, { flags, control }) }),
      format: (result) => formatEvaluations(result.models, context.terminal.colors),
    });
  });
}

interface EvaluationTask {
  readonly flags: EvalFlags;
  readonly control: JobControl;
}

async function evaluateAll(api: CliApi, models: readonly string[], task: EvaluationTask): Promise<Evaluation[]> {
  const evaluations: Evaluation[] = [];
  for (const model of models) evaluations.push(await evaluateModel(api, model, task));
  return evaluations;
}

async function evaluateModel(api: CliApi, model: string, { flags, control }: EvaluationTask): Promise<Evaluation> {
  const request = modelRequest(model, flags, control);
  const windows = {
    ...given('windowLength', flags.windowLength),
    ...given('stride', flags.stride),
    ...given('windowCount', flags.windows),
    ...given('bos', flags.bos),
  };
  const perplexity: ({ text: string } & PerplexityResult)[] = [];
  for (const file of flags.text ?? []) {
    perplexity.push({ text: file, ...(await api.perplexity({ ...request, ...windows, file })) });
  }
  if (flags.generate === undefined) return { model, perplexity };
  const sampling = {
    ...given('maxNewTokens', flags.maxNewTokens),
    ...given('temperature', flags.temperature),
    ...given('seed', flags.seed),
  };
  return { model, perplexity, generation: await api.generateText({ ...request, ...sampling, prompt: flags.generate }) };
}

function given<K extends string, V>(name: K, value: V | undefined): Partial<Record<K, V>> {
  return value === undefined ? {} : ({ [name]: value } as Record<K, V>);
}

/** Evaluations for people: a row a text, a column a model; then what each model wrote. */
export function formatEvaluations(evaluations: readonly Evaluation[], colors: Colors): string {
  const texts = evaluations[0]?.perplexity.map(({ text }) => text) ?? [];
  const rows = texts.map((text, row) => [
    text,
    ...evaluations.map(({ perplexity }) => perplexity[row]?.perplexity.toFixed(3) ?? ''),
  ]);
  const columns = [{ heading: 'perplexity' }, ...evaluations.map(({ model }) => ({ heading: model, numeric: true }))];
  const samples = evaluations.flatMap(({ model, generation }) =>
    generation ? [`${colors.bold(model)}\n${generation.text}\n`] : [],
  );
  return [...(texts.length > 0 ? [formatTable(columns, rows)] : []), ...samples].join('\n');
}
