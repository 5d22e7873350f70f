import { createColors } from 'picocolors';
import type { Prompts } from '../../src/cli/ask.js';
import { runCli } from '../../src/cli/run-cli.js';

const CANCEL = Symbol('cancel');

/** Runs `fang-prune` without a command, answers its questions, and records the calls of the API. */
async function answer(...answers: readonly unknown[]) {
  const open = [...answers];
  const shown: string[] = [];
  const calls: (readonly [string, unknown])[] = [];
  const next = async () => open.shift();
  const prompts: Prompts = {
    intro: () => {},
    outro: (text) => shown.push(text),
    select: next,
    text: next,
    confirm: next,
    isCancel: (given) => given === CANCEL,
  };
  const note = (name: string) => async (request: unknown) => void calls.push([name, request]);
  const names = ['describe', 'plan', 'prune', 'quantize', 'evaluateModels', 'benchmark'];
  const api = Object.fromEntries(names.map((name) => [name, note(name)]));
  const exitCode = await runCli([], {
    terminal: { out: () => {}, err: (text) => shown.push(text), colors: createColors(false), now: () => 0 },
    loadApi: async () => api as never,
    signal: new AbortController().signal,
    loadPrompts: async () => prompts,
  });
  return { shown, calls, exitCode, open };
}

it('prints the command of the answers, and runs it', async () => {
  const { shown, calls, open } = await answer('prune', 'my model', '30%', 'out', 'texts.jsonl', true, false);
  expect(shown[0]).toBe("npx fang-prune prune 'my model' --sparsity 30% --out out --calibration texts.jsonl --heal");
  expect(calls).toEqual([
    [
      'prune',
      expect.objectContaining({
        model: 'my model',
        sparsity: 0.3,
        out: 'out',
        heal: true,
        calibration: { source: { file: 'texts.jsonl' } },
      }),
    ],
  ]);
  expect(open).toEqual([]);
});

it.each([
  ['describe', ['describe', 'model'], 'npx fang-prune describe model'],
  ['describe', ['describe', '-model'], 'npx fang-prune describe ./-model'],
  [
    'plan',
    ['prune', 'model', '20%', 'out', '', false, true],
    'npx fang-prune prune model --sparsity 20% --out out --dry-run',
  ],
  ['quantize', ['quantize', 'model', 'q4', 'out'], 'npx fang-prune quantize model --dtype q4 --out out'],
  ['evaluateModels', ['eval', 'a', 'b', 't.txt'], 'npx fang-prune eval a b --text t.txt --reference a'],
  ['benchmark', ['bench', 'a', 'b'], 'npx fang-prune bench a b'],
])('calls %s', async (call, answers, command) => {
  const { shown, calls } = await answer(...answers);
  expect(shown[0]).toBe(command);
  expect(calls.map(([name]) => name)).toEqual([call]);
});

it('calls nothing when it is cancelled', async () => {
  const { shown, calls, exitCode } = await answer('prune', CANCEL);
  expect(shown).toEqual(['Cancelled.']);
  expect(calls).toEqual([]);
  expect(exitCode).toBe(0);
});
