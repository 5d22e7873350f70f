import { createColors } from 'picocolors';
import type { CliApi } from '../../src/cli/api.js';
import { runCli } from '../../src/cli/run-cli.js';
import type { PerplexityResult } from '../../src/evaluation/perplexity.js';
import type { BenchmarkReport } from '../../src/node/benchmark.js';
import type {
  BiasResult,
  EvaluateRequest,
  Evaluation,
  HealedFolder,
  ObservedFolder,
  TaskReport,
  TrimmedVocabulary,
} from '../../src/node.js';
import { compareEvaluations } from '../../src/node.js';
import { fractionOf } from '../../src/options/kinds.js';
import type { ModelDescription } from '../../src/report/describe-model.js';
import type { DtypeReport, ModuleReport, PruneReport, SizeReport } from '../../src/report/report-schema.js';
import { sampleReport } from './sample-report.js';

const moduleReport = (
  block: number,
  kind: ModuleReport['kind'],
  [unitsBefore, unitsAfter]: readonly [number, number],
) => ({
  block,
  kind,
  unitsBefore,
  unitsAfter,
  parametersBefore: unitsBefore * 100,
  parametersAfter: unitsAfter * 100,
  sparsity: 1 - unitsAfter / unitsBefore,
  keep: Array.from({ length: unitsAfter }, (_, unit) => unit),
});

export const PRUNE_REPORT: PruneReport = {
  schema: 'fang-prune-report/1',
  version: '0.1.0',
  model: 'dense',
  out: 'pruned',
  method: 'flap',
  settings: { method: 'flap', sparsity: 0.3 },
  seed: 0,
  sparsity: { requested: 0.3, achieved: 0.2998, ofAllParameters: 0.2568 },
  parameters: { before: 2_828_736, after: 2_102_400 },
  bytes: { before: 11_566_780, after: 8_661_000 },
  blocks: [0, 1, 2].map((index) => ({ index, sparsity: index === 2 ? 0.01 : 0.29 })),
  modules: [
    moduleReport(0, 'attention', [8, 6]),
    moduleReport(0, 'ffn', [512, 360]),
    moduleReport(1, 'attention', [8, 6]),
    moduleReport(1, 'ffn', [512, 360]),
    moduleReport(2, 'attention', [8, 6]),
    moduleReport(2, 'ffn', [512, 512]),
  ],
  timings: [{ stage: 'measure', ms: 1500 }],
  remarks: ['dampening raised in block 0'],
};

export const MODEL_DESCRIPTION: ModelDescription = {
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
    {
      block: 0,
      kind: 'ffn',
      node: 'Mul "/mlp/Mul"',
      opType: 'Mul',
      reason: 'no activation found',
      nearest: 'gated ffn',
    },
  ],
};

const PERPLEXITY_RESULT: PerplexityResult = {
  perplexity: 12.3456,
  negativeLogLikelihood: Math.log(12.3456),
  tokenCount: 100,
  windowCount: 1,
  windows: [{ nll: 100 * Math.log(12.3456), tokenCount: 100 }],
  protocol: { tokensSha256: 'ab', windowLength: 512, stride: 512, windowCount: 1, tokenCount: 100 },
};

const speedOf = (model: string, median: number) => {
  const spread = { median, low: median - 1, high: median + 1, values: [median - 1, median, median + 1] };
  return {
    model,
    fileBytes: 4e6 / median,
    loadMs: spread,
    prefillTokensPerSecond: spread,
    decodeTokensPerSecond: spread,
    peakMemoryBytes: 2e9,
    hasCache: true,
  };
};

export const BENCHMARK_REPORT: BenchmarkReport = {
  machine: { processor: 'a processor', cores: 2, platform: 'linux x64', node: 'v20' },
  promptLength: 128,
  newTokens: 32,
  rounds: 3,
  models: [speedOf('dense', 100), speedOf('pruned', 1250)],
  comparisons: [
    {
      model: 'pruned',
      reference: 'dense',
      prefill: { ratio: 12.5, interval: [12.4, 12.6], verdict: 'faster' },
      decode: { ratio: 12.5, interval: [12.4, 12.6], verdict: 'faster' },
      fileRatio: 0.08,
      memoryRatio: 1,
      summary: ['Prefill: faster.', 'Decode: faster.'],
    },
  ],
};

/** A model's result for three items. */
const TASK_RESULT: TaskReport = {
  kind: 'multiple-choice',
  file: 'items.jsonl',
  protocol: { taskSha256: 'cd', delimiter: ' ', bos: false },
  itemCount: 3,
  acc: 2 / 3,
  accStderr: 1 / 3,
  accNorm: 1 / 3,
  accNormStderr: 1 / 3,
  goldNll: 1.5,
  answers: [0, 1, 2].map((index) => ({
    index,
    gold: 0,
    choice: index < 2 ? 0 : 1,
    choiceNorm: index < 1 ? 0 : 1,
    isRight: index < 2,
    goldNll: 1.5,
  })),
};

/** The evaluation that a request asks for, the same figures for every model. */
function evaluationOf(model: string, { texts = [], tasks = [], reference }: EvaluateRequest): Evaluation {
  const compared = reference === undefined || reference === model ? [] : texts;
  return {
    model,
    perplexity: texts.map((text) => ({ text, ...PERPLEXITY_RESULT })),
    divergence: compared.map((text) => ({
      text,
      reference: reference!,
      klDivergence: 0.1234,
      top1Agreement: 0.9,
      protocol: PERPLEXITY_RESULT.protocol,
    })),
    tasks: tasks.map((file) => ({ ...TASK_RESULT, file })),
  };
}

const losses = (dense: number, pruned: number) => ({ tokenCount: 100, dense, pruned, standardError: 0.01 });

export const BIAS_RESULT: BiasResult = {
  name: 'code.txt',
  block: 3,
  windowLength: 256,
  calibration: losses(3, 3.2),
  text: losses(2.5, 3.5),
  contexts: [
    { calibration: losses(3, 3.1), text: losses(3, 3.2), lostShare: 0.2, covered: true },
    { text: losses(2, 3.8), lostShare: 0.8, covered: false },
  ],
  uncovered: { lost: 0.8, text: 0.5, calibration: 0 },
  overlap: { passageLength: 13, sharedCount: 0, tokenCount: 100 },
  described: [
    { tokenCount: 150, tokens: [{ text: ' the', count: 9, lift: 3 }], examples: [] },
    { tokenCount: 50, tokens: [{ text: '\n\t', count: 9, lift: 3 }], examples: [] },
  ],
  warnings: ['80.0 % of the loss increase on the text is in contexts that the calibration hardly covers'],
  perplexity: { kind: 'perplexity', name: 'code.txt', dense: 12.2, pruned: 33.1, better: 'lower' },
};

const OBSERVED: Omit<ObservedFolder, 'model' | 'out' | 'method'> = {
  seed: 0,
  sums: 'gram',
  metric: 'loss',
  grouped: false,
  moduleCount: 12,
  calibration: {
    kind: 'default-text',
    tokensSha256: 'ab',
    documentCount: 1,
    tokenCount: 8192,
    windowCount: 64,
    requestedWindowCount: 64,
    windowLength: 128,
    selection: 'first',
  },
  bytes: 12_345_678,
  timings: [{ stage: 'measure', ms: 1500 }],
  remarks: [],
};

const HEALED: Omit<HealedFolder, 'dense' | 'pruned' | 'out'> = {
  sha256: 'ab',
  healing: sampleReport().healing!,
  timings: [{ stage: 'heal', ms: 1500 }],
  remarks: [],
};

/** A result that was shrunk to a size. */
export const SIZE_REPORT: SizeReport = {
  target: 9_000_000,
  allow: ['neurons', 'bits'],
  candidates: [
    {
      kind: 'plain',
      bytes: 9_900_000,
      sparsity: 0,
      maps: { q8: 30 },
      chosen: false,
      divergence: { pruning: 0, quantising: 0.001 },
    },
    {
      kind: 'mixture',
      bytes: 8_900_000,
      sparsity: 0.125,
      maps: { q8: 20, q4: 10 },
      chosen: true,
      divergence: { pruning: 0.1, quantising: 0.05 },
      predicted: 0.14,
    },
  ],
};

export const DTYPE_REPORT: DtypeReport = {
  dtype: 'q4',
  file: 'onnx/model_q4.onnx',
  bytes: 2_248_052,
  parts: { ffn: 1_133_568, attention: 425_088, embedding: 417_792, head: 0, other: 10_000 },
  divergence: { windowCount: 2, pruning: 0.31, quantising: 0.052, nearest: 0.12 },
  rounding: { learned: 40, nearest: 2, costRatio: 0.31 },
};

export const TRIMMED: TrimmedVocabulary = {
  model: 'dense',
  rows: { before: 2048, after: 1500 },
  tokens: { before: 2048, after: 1500 },
  reasons: { always: 257, text: 3, chosen: 1230, parts: 10 },
  merges: { before: 1791, after: 1243 },
  bytes: { before: 11_566_780, after: 11_145_916 },
  tables: [
    {
      name: 'model.embed_tokens.weight',
      rows: { before: 2048, after: 1500 },
      bytes: { before: 1_572_864, after: 1_152_000 },
    },
  ],
  certificate: { windows: 2, tokens: 128, gap: 0, equal: true, tolerance: 1e-4 },
  timings: [{ stage: 'choose', ms: 100 }],
  remarks: ['a remark'],
};

/** A call that reached the library, with its request. */
export type ApiCall = readonly [name: keyof CliApi, request: Readonly<Record<string, unknown>>];

/** Runs a command line against a library that answers at once, or as `overrides` says. */
export async function runWithDouble(commandLine: string, overrides: Partial<CliApi> = {}, signal?: AbortSignal) {
  const calls: ApiCall[] = [];
  let out = '';
  let err = '';
  const answers: Omit<CliApi, 'perplexity' | 'evaluateTasks' | 'logLikelihoods'> = {
    prune: async () => PRUNE_REPORT,
    plan: async ({ sparsity, method = 'auto' }) => ({
      model: 'dense',
      method: String(method),
      allocation: method === 'flap' ? 'uniform' : 'global',
      results: [sparsity]
        .flat()
        .map(fractionOf)
        .map((requested) => ({
          sparsity: { requested, achieved: requested, ofAllParameters: requested },
          parameters: { before: 2_828_736, after: 2_828_736 * (1 - requested) },
          bytes: { before: 11_566_780, after: 11_566_780 * (1 - requested) },
          ...(method === 'flap' && { widths: PRUNE_REPORT.modules }),
        })),
      calibration: { windowCount: 64, windowLength: 512, writtenCount: 32 },
      stages: [
        { stage: 'generate', ms: 60_000 },
        { stage: 'prune', ms: 123_000 },
        { stage: 'save', ms: 100 },
      ],
      ms: 183_100,
      memoryBytes: 2_100_000_000,
      scratchBytes: 350_000_000,
      remarks: ['block 1 experts: stays as it is'],
    }),
    pruneLadder: async ({ sparsity }) =>
      sparsity.map(fractionOf).map((requested, at) => ({
        ...PRUNE_REPORT,
        out: `pruned/${requested * 100}`,
        sparsity: { ...PRUNE_REPORT.sparsity, requested, achieved: requested },
        bytes: { before: 11_566_780, after: 9_000_000 - at * 1_000_000 },
      })),
    quantize: async ({ out }) => ({ ...PRUNE_REPORT, ...(out !== undefined && { out }), dtypes: [DTYPE_REPORT] }),
    shrink: async ({ model, out }) => [
      { ...PRUNE_REPORT, model, ...(out !== undefined && { out }), size: SIZE_REPORT },
    ],
    planShrink: async ({ model }) => ({
      model,
      bytes: 400e6,
      smallest: { bytes: 20e6, binds: [{ name: 'embed', bytes: 15e6 }] },
      dtypes: [
        { dtype: 'q8', bytes: 120e6 },
        { dtype: 'q4', bytes: 70e6 },
      ],
      sizes: [
        {
          target: 60e6,
          removed: { q8: 0.6, q4: 0.125 },
          candidates: [
            {
              kind: 'mixture',
              bytes: 59.9e6,
              sparsity: 0.1,
              maps: { q8: 2, q4: 40 },
              predicted: { pruning: 0.05, quantising: 0.02 },
            },
          ],
        },
      ],
      calibration: { windowCount: 64, windowLength: 512, writtenCount: 32 },
      stages: [{ stage: 'candidates', ms: 120_000 }],
      ms: 130_000,
      memoryBytes: 2_100_000_000,
      scratchBytes: 0,
      remarks: [],
    }),
    choose: async ({ model, out }) => ({
      models: [
        { name: 'dense', model, bytes: 400e6, bitsPerByte: 1, tokensPerSecond: 100, firstTokenMs: 20 },
        { name: '60MB', model: `${out}/60MB`, bytes: 59e6, bitsPerByte: 1.019, tokensPerSecond: 210, firstTokenMs: 12 },
      ],
      recommended: '60MB',
      promptLength: 128,
    }),
    observe: async ({ model, out, method = 'auto' }) => ({ ...OBSERVED, model, out, method: String(method) }),
    mergeStatistics: async ({ shards, out }) => ({
      out,
      shardCount: shards.length,
      moduleCount: 12,
      windowCount: 64,
      bytes: 12_300_000,
      remarks: [],
    }),
    applyRecipe: async ({ model, out }) => ({
      model,
      out,
      sha256: 'ab',
      parameters: PRUNE_REPORT.parameters,
      bytes: PRUNE_REPORT.bytes,
    }),
    heal: async ({ dense, pruned, out }) => ({ ...HEALED, dense, pruned, out }),
    trimVocabulary: async ({ model, out }) => ({ ...TRIMMED, model, ...(out !== undefined && { out }) }),
    describe: async () => MODEL_DESCRIPTION,
    evaluateModels: async (request) => request.models.map((model) => evaluationOf(model, request)),
    compareEvaluations,
    compareFiles: async () => [],
    benchmark: async () => BENCHMARK_REPORT,
    generateText: async () => ({ text: 'Once upon a time' }),
    measureCalibrationBias: async () => BIAS_RESULT,
    rebuildReport: async () => ({ report: PRUNE_REPORT, files: ['a.json', 'a.html'] }),
    push: async ({ folder, repo }) => ({ folder, repo, commit: 'ab', url: 'hub', files: [], leftOut: [], card: '' }),
    ...overrides,
  };
  const record =
    <Request extends object, Result>(name: string, answer: (request: Request) => Promise<Result>) =>
    (request: Request) => {
      calls.push([name as keyof CliApi, Object.fromEntries(Object.entries(request))]);
      return answer(request);
    };
  const api = {
    ...Object.fromEntries(Object.entries(answers).map(([name, answer]) => [name, record(name, answer as never)])),
    compareEvaluations: answers.compareEvaluations,
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
