import { OptionError } from '../errors.js';
import type { EvaluateRequest, Evaluation, GenerationRequest, ModelComparison } from '../node.js';
import { EVALUATE, GENERATE_TEXT } from '../options/commands.js';
import { boolean } from '../options/kinds.js';
import { pickOptions, refusal, rowsOf } from '../options/option.js';
import { checkMeasuring } from '../options/texts.js';
import type { CliApi } from './api.js';
import type { CommandRow } from './command.js';
import { formatComparisons } from './format-comparisons.js';
import { formatEvaluations, type ShownEvaluation } from './format-evaluations.js';
import { InterruptedError } from './interrupted-error.js';

interface EvalRequest extends EvaluateRequest, Omit<GenerationRequest, 'model' | 'prompt'> {
  readonly prompt?: string;
  readonly compare?: boolean;
}

interface EvalResult {
  readonly models: readonly ShownEvaluation[];
  readonly comparisons?: readonly ModelComparison[];
}

const { 'Sample text': sample } = GENERATE_TEXT;

/** Options of `eval`: those of two calls, and `--compare`. */
export const EVAL = {
  ...EVALUATE,
  'Sample text': { ...sample, prompt: { ...sample.prompt, required: false } },
  Comparison: {
    compare: {
      kind: boolean,
      flag: '--compare',
      help: 'test whether the models differ from the first by more than noise',
    },
  },
};

/** `eval <models...>` */
export const evalCommand: CommandRow<EvalRequest, EvalResult> = {
  name: 'eval',
  call: 'evaluateModels',
  description: 'measure perplexity and tasks and write sample text, one model or several side by side',
  arguments: { '<models...>': 'folders, .onnx files, or names on the Hub' },
  families: EVAL,
  examples: [
    'eval ./model ./smaller --text my-test.txt --reference ./model',
    'eval org/model ./smaller --text my-test.txt --tasks piqa.jsonl --compare',
    "eval ./model ./smaller --generate 'Once upon a time'",
  ],
  check: checkPurpose,
  run: (api, request) =>
    evaluate(api, request).catch((error: unknown) => {
      if (!request.signal?.aborted || request.resume === undefined) throw error;
      throw new InterruptedError(`interrupted; run the same command again to resume from ${request.resume}`);
    }),
  format: ({ models, comparisons }, colors) =>
    [formatEvaluations(models, colors), ...(comparisons ? [formatComparisons(comparisons, colors)] : [])].join('\n'),
};

/** @throws OptionError when there is nothing to measure, or nothing to compare with, or an option has no effect. */
function checkPurpose(request: EvalRequest): void {
  const { models, texts, tasks, prompt, reference, compare } = request;
  if (!texts && !tasks && prompt === undefined)
    throw new OptionError(
      "name what to measure with '--text FILE', '--tasks FILE', '--generate PROMPT', or several of them",
    );
  if (reference !== undefined && !texts)
    throw new OptionError("'--reference MODEL' needs a '--text FILE' to compare on");
  if (compare && (models.length < 2 || !(texts || tasks)))
    throw new OptionError("'--compare' needs two models and '--text FILE' or '--tasks FILE'");
  checkMeasuring(request);
  const unused = (['newTokens', 'temperature'] as const).find((name) => request[name] !== undefined);
  if (prompt === undefined && unused !== undefined) throw refusal(unused, 'has no effect without prompt; leave it out');
}

async function evaluate(api: CliApi, request: EvalRequest): Promise<EvalResult> {
  // A prompt that a model cannot read is refused before hours of measurements.
  const written: Pick<ShownEvaluation, 'generation'>[] = [];
  for (const model of request.models) written.push(await write(api, model, request));
  const evaluations = await measure(api, request);
  const shown = evaluations.map((evaluation, at) => ({ ...evaluation, ...written[at] }));
  if (!request.compare) return { models: shown };
  const { seed } = request;
  return { models: shown, comparisons: api.compareEvaluations(evaluations, seed === undefined ? {} : { seed }) };
}

async function measure(api: CliApi, request: EvalRequest): Promise<readonly Evaluation[]> {
  if (request.texts || request.tasks) return api.evaluateModels(pickOptions(request, rowsOf(EVALUATE)));
  return request.models.map((model) => ({ model, perplexity: [], divergence: [], tasks: [] }));
}

async function write(api: CliApi, model: string, { prompt, ...request }: EvalRequest) {
  if (prompt === undefined) return {};
  return { generation: await api.generateText({ ...pickOptions(request, rowsOf(GENERATE_TEXT)), model, prompt }) };
}
