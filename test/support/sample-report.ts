import { createRandom } from '../../src/linalg/random.js';
import type {
  BiasReport,
  ContextReport,
  GroupReport,
  ModuleReport,
  PruneReport,
  QualityReport,
} from '../../src/report/report-schema.js';

export interface SampleShape {
  readonly blockCount: number;
  readonly neuronCount: number;
  readonly contextCount: number;
  /** Token that every context quotes. */
  readonly token: string;
}

/** A report with all fields, of the given size. */
export function sampleReport(shape: Partial<SampleShape> = {}): PruneReport {
  const { blockCount = 6, neuronCount = 64, contextCount = 7, token = ' the' } = shape;
  const random = createRandom(1);
  const full = { blockCount, neuronCount, contextCount, token };
  const modules = Array.from({ length: blockCount }, (_, block) => [
    attention(block, token, random),
    ffn(block, full, random),
  ]).flat();
  return {
    schema: 'fang-prune-report/1',
    version: '0.1.0',
    createdAt: '2026-01-02T03:04:05.678Z',
    environment: { runtime: 'Node.js 20', platform: 'linux x64', onnxRuntime: '1.30.0', cpu: 'some CPU' },
    model: `models/${token}`,
    out: 'models/pruned',
    method: 'o-fang',
    settings: { method: 'o-fang', sparsity: 0.3, modules: ['ffn', 'attention'], grouping: { contextCount }, list: [] },
    sparsity: { requested: 0.3, achieved: 0.301, ofAllParameters: 0.25 },
    parameters: { before: 1e8, after: 7.5e7 },
    bytes: { before: 4e8, after: 3e8 },
    blocks: Array.from({ length: blockCount }, (_, index) => ({ index, sparsity: 0.3, change: random() })),
    modules,
    dtypes: [
      { ...dtype('q4', 8e7), quality: sampleQuality(15.2, 0.21, 0.78) },
      { ...dtype('fp16', 1.5e8), quality: sampleQuality(14.9, 0.18, 0.8) },
      dtype('q4f16', 7.9e7),
    ],
    healing: {
      windowCount: 64,
      heldOutCount: 4,
      windowLength: 512,
      trained: 'all',
      trainedCount: 5e7,
      windowsPerStep: 4,
      passCount: 1,
      learningRate: 2e-4,
      halvings: 0,
      divergence: { before: 0.4, after: 0.3 },
      keptStep: 16,
      curve: Array.from({ length: 17 }, (_, step) => ({
        step,
        ...(step > 0 && { train: 0.4 - 0.005 * step + 0.02 * random() }),
        ...(step % 4 === 0 && { heldOut: 0.4 - 0.00625 * step }),
      })),
    },
    metrics: [
      { kind: 'perplexity', name: 'held-out calibration text', dense: 12.3, pruned: 15.6, better: 'lower' },
      {
        kind: 'perplexity',
        name: `a very long name of a text ${'x'.repeat(60)}`,
        dense: 8,
        pruned: 130,
        better: 'lower',
      },
      {
        kind: 'accuracy',
        name: 'piqa, acc',
        dense: 0.66,
        pruned: 0.61,
        better: 'higher',
        standardErrors: { dense: 0.01, pruned: 0.01 },
        note: '300 items',
      },
      {
        kind: 'speed',
        name: 'prefill',
        dense: 1000,
        pruned: 1300,
        unit: 'tokens/s',
        better: 'higher',
        changeInterval: [0.281, 0.319],
      },
    ],
    samples: [
      {
        prompt: `Once upon a time ${token}`,
        dense: `there was a small house.\n${token}`,
        pruned: 'there was a house house house',
      },
    ],
    ladder: [0, 0.1, 0.3, 0.5].map((requested, at) => ({
      requested,
      achieved: requested,
      ...(at > 0 && { out: `models/pruned/${100 * requested}` }),
      parameters: 1e8 * (1 - requested),
      bytes: 4e8 * (1 - requested),
      perplexities: [
        { text: 'prose.txt', perplexity: 12.3 + 10 * requested },
        { text: `a very long name of a text ${'x'.repeat(60)}`, perplexity: 8 * (1 + at) ** 2 },
      ],
    })),
    certificate: {
      windows: 2,
      tokens: 128,
      from: 'text',
      opened: true,
      gap: 3.21e-7,
      rounding: 1.5e-7,
      tolerance: 1e-5,
      passed: true,
    },
    beside: ['pruned', 'other'].map((name, at) => ({
      ...{
        name: `models/${name}`,
        method: 'auto',
        seed: at,
        requested: 0.3,
        achieved: 0.3,
        parameters: 7.5e7,
        bytes: 3e8,
      },
      metrics: [{ kind: 'perplexity', name: 'held-out calibration text', pruned: 15.6 + at, better: 'lower' }],
    })),
    bias: [bias(full)],
    seed: 0,
    calibration: {
      kind: 'default-text',
      tokensSha256: 'a'.repeat(64),
      documentCount: 3,
      tokenCount: 32_768,
      windowCount: 64,
      requestedWindowCount: 64,
      windowLength: 512,
      selection: 'first',
    },
    timings: [
      { stage: 'load', ms: 120 },
      { stage: 'measure', ms: 23_000 },
    ],
    peakMemoryBytes: 1.5e9,
    remarks: [`block 3 ffn: something ${token} worth knowing`],
  };
}

function attention(block: number, token: string, random: () => number): ModuleReport {
  return {
    block,
    kind: 'attention',
    unitsBefore: 9,
    unitsAfter: 6,
    parametersBefore: 9e5,
    parametersAfter: 6e5,
    sparsity: 1 / 3,
    keep: [0, 1, 2, 6, 7, 8],
    error: { before: 0.2 + 0.2 * random(), after: 0.1, basis: 'gram' },
    numerics: { dampening: 0.01, condition: 10 ** (1 + 8 * random()) },
    topTokens: { keptShare: 0.93, kept: contexts(1, token)[0]!, removed: contexts(1, token)[0]! },
    costCurve: { removed: [0, 1 / 3, 2 / 3, 1], cost: [0, 0.1, 0.5, 2] },
  };
}

function ffn(block: number, { neuronCount, contextCount, token }: SampleShape, random: () => number): ModuleReport {
  const size = Math.floor(neuronCount / (contextCount + 1));
  const columnsPerGroup = Math.max(1, Math.floor(64 / (contextCount + 1)));
  const groups = Array.from({ length: contextCount + 1 }, (_, group): GroupReport => {
    const members = Array.from({ length: size }, (_member, at) => group * size + at);
    if (group === 0) return { kind: 'shared', members, keptCount: size };
    const numerics = { dampening: 0.01, condition: 1234 };
    return { kind: 'function', context: group - 1, members, keptCount: Math.ceil(size / 2), numerics };
  });
  const columns = groups.flatMap((_, group) =>
    Array.from({ length: columnsPerGroup }, (_column, at) => ({
      group,
      neuronCount: Math.ceil(size / columnsPerGroup),
      keptCount: group === 0 || at < columnsPerGroup / 2 ? Math.ceil(size / columnsPerGroup) : 0,
    })),
  );
  return {
    block,
    kind: 'ffn',
    unitsBefore: neuronCount,
    unitsAfter: Math.floor(neuronCount * 0.6),
    parametersBefore: 3 * neuronCount * 576,
    parametersAfter: 3 * neuronCount * 345,
    sparsity: 0.4,
    keep: Array.from({ length: Math.floor(neuronCount * 0.6) }, (_, at) => at),
    error: { before: 0.3, after: 0.1 + 0.1 * random(), basis: 'gram' },
    groups,
    contexts: contexts(contextCount, token),
    affinity: {
      columns,
      values: Array.from({ length: contextCount }, () =>
        columns.map(() => Number((1e-4 * random() ** 3).toPrecision(4))),
      ),
    },
    costCurve: { removed: [0, 0.5, 1], cost: [0, 0.05, 3] },
  };
}

function contexts(count: number, token: string): ContextReport[] {
  return Array.from({ length: count }, (_, context) => ({
    tokenCount: 1000 + context,
    tokens: Array.from({ length: 8 }, (_token, at) => ({ text: `${token}${at}`, count: 90 - at, lift: 4.2 })),
    examples: Array.from({ length: 6 }, (_example, at) => ({
      before: `some forty characters that stand before it ${context}${at} `,
      token,
      after: ' and twenty after it,\nor',
    })),
  }));
}

function bias({ contextCount, token }: SampleShape): BiasReport {
  const losses = (dense: number, pruned: number) => ({ tokenCount: 4096, dense, pruned, standardError: 0.01 });
  return {
    name: 'code.txt',
    block: 3,
    windowLength: 512,
    calibration: losses(2.5, 2.8),
    text: losses(2, 3),
    contexts: Array.from({ length: contextCount }, (_, context) => ({
      ...(context > 0 && { calibration: losses(2.5, 2.6 + context / 10) }),
      text: losses(2, 2.2 + context / 20),
      lostShare: 1 / contextCount,
      covered: context > 0,
    })),
    uncovered: { lost: 0.4, text: 0.3, calibration: 0.01 },
    overlap: { passageLength: 13, sharedCount: 100, tokenCount: 4096 },
    described: contexts(contextCount, token),
    warnings: [`40 % of what the text loses ${token} sits in contexts that calibration hardly covers`],
  };
}

const dtype = (name: string, bytes: number) => ({
  dtype: name,
  file: `onnx/model_${name}.onnx`,
  bytes,
  parts: { ffn: bytes / 2, attention: bytes / 4, embedding: bytes / 4, head: 0, other: 0 },
});

const sampleQuality = (pruned: number, divergence: number, agreement: number): QualityReport => ({
  from: 'source',
  perplexity: { dense: 12.3, pruned, changeInterval: [pruned / 12.3 - 1.02, pruned / 12.3 - 0.98] },
  divergence: { mean: divergence },
  top1Agreement: { mean: agreement },
  protocol: { tokensSha256: 'ab'.repeat(32), windowLength: 128, stride: 128, windowCount: 8, tokenCount: 1016 },
});
