import { createColors } from 'picocolors';
import type { CliApi, DescriptionSummary, PruneSummary } from '../../src/cli/api.js';
import { runCli } from '../../src/cli/run-cli.js';

export const PRUNE_SUMMARY: PruneSummary = {
  model: 'dense',
  out: 'pruned',
  method: 'flap',
  seed: 0,
  sparsity: { requested: 0.3, achieved: 0.2998, ofAllParameters: 0.2568 },
  parameters: { before: 2_828_736, after: 2_102_400 },
  bytes: { before: 11_566_780, after: 8_661_000 },
  modules: [
    { block: 0, kind: 'attention', unitsBefore: 8, unitsAfter: 6 },
    { block: 0, kind: 'ffn', unitsBefore: 512, unitsAfter: 360 },
  ],
  timings: [{ stage: 'measure', ms: 1500 }],
  remarks: ['dampening raised in block 0'],
};

export const DESCRIPTION_SUMMARY: DescriptionSummary = {
  model: 'dense',
  format: { opset: 17, dataType: 'float32', bytes: 11_566_780, external: false },
  hiddenSize: 192,
  vocabularySize: 2048,
  parameters: { total: 2_828_736, prunable: 2_433_024 },
  blocks: [
    {
      index: 0,
      modules: [
        {
          kind: 'attention',
          description: 'grouped-query attention',
          heads: 8,
          kvHeads: 4,
          headSize: 24,
          parameters: 110_592,
        },
      ],
    },
  ],
  unrecognised: [
    { block: 0, kind: 'ffn', node: '/mlp/Mul', opType: 'Mul', reason: 'no activation found', nearest: 'gated ffn' },
  ],
};

/** Every call that reached the library, with what it was asked. */
export type ApiCall = readonly [name: keyof CliApi, request: Readonly<Record<string, unknown>>];

/** Runs a command line against a library that answers at once, or as `overrides` says. */
export async function runWithDouble(commandLine: string, overrides: Partial<CliApi> = {}, signal?: AbortSignal) {
  const calls: ApiCall[] = [];
  let out = '';
  let err = '';
  const answers: CliApi = {
    prune: async () => PRUNE_SUMMARY,
    describe: async () => DESCRIPTION_SUMMARY,
    perplexity: async () => ({ perplexity: 12.3456, tokenCount: 100 }),
    generateText: async () => ({ text: 'Once upon a time' }),
    ...overrides,
  };
  const record =
    <K extends keyof CliApi>(name: K) =>
    (request: never) => {
      calls.push([name, request]);
      return (answers[name] as (request: never) => never)(request);
    };
  const api = {
    prune: record('prune'),
    describe: record('describe'),
    perplexity: record('perplexity'),
    generateText: record('generateText'),
  } as unknown as CliApi;
  const exitCode = await runCli(commandLine.split(' ').filter(Boolean), {
    terminal: {
      out: (text) => {
        out += text;
      },
      err: (text) => {
        err += text;
      },
      colors: createColors(false),
      now: () => 0,
    },
    loadApi: async () => api,
    signal: signal ?? new AbortController().signal,
  });
  return { exitCode, out, err, calls };
}
