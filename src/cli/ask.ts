import { shortName } from '../report/page/short-names.js';
import { asPath, commandLine } from './next-steps.js';
import type { Terminal } from './terminal.js';

/** Prompts of the terminal: `@clack/prompts`, or a double. */
export interface Prompts {
  intro(text: string): void;
  outro(text: string): void;
  select(question: { message: string; options: { value: string; label: string; hint?: string }[] }): Promise<unknown>;
  text(question: {
    message: string;
    initialValue?: string;
    validate?: (value: string | undefined) => string | undefined;
  }): Promise<unknown>;
  confirm(question: { message: string; initialValue: boolean }): Promise<unknown>;
  isCancel(answer: unknown): boolean;
}

/** The user pressed Ctrl-C or Escape. */
class Cancelled extends Error {}

type Ask = ReturnType<typeof askWith>;

/** Tasks to choose from, and the questions of each. */
const TASKS: Readonly<Record<string, { readonly label: string; readonly questions: (ask: Ask) => Promise<string[]> }>> =
  {
    describe: { label: 'describe a model', questions: async (ask) => ['describe', await ask.model()] },
    prune: { label: 'make a model smaller', questions: askToPrune },
    quantize: {
      label: 'write a model in fewer bits',
      async questions(ask) {
        const model = await ask.model();
        const dtype = await ask.choice('In which dtype?', DTYPE_CHOICES);
        return [
          'quantize',
          model,
          '--dtype',
          dtype,
          '--out',
          await ask.text('Where to?', `${shortName(model)}-${dtype}`),
        ];
      },
    },
    eval: {
      label: 'measure the quality of a smaller model',
      async questions(ask) {
        const dense = await ask.model('The dense model?');
        const pruned = await ask.model('The smaller one?');
        return [
          'eval',
          dense,
          pruned,
          '--text',
          await ask.text('A held-out text to measure on?'),
          '--reference',
          dense,
        ];
      },
    },
    bench: {
      label: 'measure the speed of models',
      questions: async (ask) => ['bench', await ask.model('The dense model?'), await ask.model('The smaller one?')],
    },
  };

const DTYPE_CHOICES = { q4: '4 bits per weight', q8: '8 bits per weight', fp16: 'half precision' };
const SPARSITIES = {
  '20%': 'little loss',
  '30%': 'a common choice',
  '40%': 'larger loss; heal it',
  '20%,30%,40%': 'all three, from one measurement of the model',
};

async function askToPrune(ask: Ask): Promise<string[]> {
  const model = await ask.model();
  const sparsity = await ask.choice('How much to remove?', SPARSITIES);
  const out = await ask.text('Where to?', `${shortName(model)}-smaller`);
  const text = await ask.optional(
    'A calibration text (.txt, .jsonl) like the text that it will read? (empty: a bundled text)',
  );
  const heals = await ask.yes(
    'Train it afterwards on the predictions of the dense model (distillation)? It takes several times as long',
    false,
  );
  const isDry = await ask.yes('Only estimate sizes and time?', false);
  return [
    ...['prune', model, '--sparsity', sparsity, '--out', out],
    ...(text === '' ? [] : ['--calibration', text]),
    ...(heals ? ['--heal'] : []),
    ...(isDry ? ['--dry-run'] : []),
  ];
}

/** Asks for a command and its arguments. @returns the arguments; undefined if cancelled */
export async function askForCommand(prompts: Prompts, terminal: Terminal): Promise<readonly string[] | undefined> {
  prompts.intro('fang-prune');
  const ask = askWith(prompts);
  try {
    const labels = Object.fromEntries(Object.entries(TASKS).map(([name, { label }]) => [name, label]));
    const task = await ask.choice('What would you like to do?', labels, true);
    const args = await TASKS[task]!.questions(ask);
    prompts.outro(terminal.colors.bold(commandLine(args)));
    return args;
  } catch (error) {
    if (!(error instanceof Cancelled)) throw error;
    prompts.outro('Cancelled.');
    return undefined;
  }
}

function askWith(prompts: Prompts) {
  const answerOf = <T>(answer: unknown): T => {
    if (prompts.isCancel(answer)) throw new Cancelled();
    return answer as T;
  };
  const needed = (value: string | undefined) => ((value ?? '').trim() === '' ? 'Please enter something.' : undefined);
  const text = async (message: string, initialValue?: string): Promise<string> =>
    answerOf<string>(
      await prompts.text({ message, validate: needed, ...(initialValue !== undefined && { initialValue }) }),
    ).trim();
  return {
    text,
    model: async (message = 'Which model?') =>
      asPath(await text(`${message} A folder, an .onnx file, or org/name on the Hugging Face Hub`)),
    async optional(message: string): Promise<string> {
      return (answerOf<string | undefined>(await prompts.text({ message })) ?? '').trim();
    },
    async yes(message: string, initialValue: boolean): Promise<boolean> {
      return answerOf(await prompts.confirm({ message, initialValue }));
    },
    /** @param isLabelled whether the texts are labels instead of explanations of the values */
    async choice(message: string, choices: Readonly<Record<string, string>>, isLabelled = false): Promise<string> {
      const options = Object.entries(choices).map(([value, explanation]) =>
        isLabelled ? { value, label: explanation, hint: value } : { value, label: value, hint: explanation },
      );
      return answerOf(await prompts.select({ message, options }));
    },
  };
}
