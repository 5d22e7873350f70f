import {
  anyObject,
  anyText,
  arrayOf,
  boolean,
  choice,
  finite,
  type Kind,
  optional,
  withFields,
} from '../options/kinds.js';

/** JSON writes NaN as null. */
const finiteOrNull: Kind<number | null> = {
  accepts: (value): value is number | null => value === null || Number.isFinite(value),
  expected: 'a number',
  schema: { type: ['number', 'null'] },
};
const protocol = withFields({ tokensSha256: anyText });

/** A `MetricReport`. */
export const METRIC = withFields({
  kind: choice(['perplexity', 'accuracy', 'speed', 'memory', 'other']),
  name: anyText,
  dense: optional(finite),
  pruned: finite,
  bitsPerByte: optional(withFields({ dense: optional(finite), pruned: finite })),
  unit: optional(anyText),
  better: choice(['lower', 'higher']),
  standardErrors: optional(withFields({ dense: optional(finite), pruned: finite })),
  changeInterval: optional(arrayOf(finite)),
  verdict: optional(choice(['same', 'worse', 'better'])),
  protocol: optional(anyObject),
  note: optional(anyText),
});

const losses = withFields({ tokenCount: finite, dense: finite, pruned: finite, standardError: optional(finite) });

/** A `ContextReport`. */
export const CONTEXT = withFields({
  tokenCount: finite,
  tokens: optional(arrayOf(withFields({ text: anyText, count: finite, lift: finite }))),
  examples: optional(arrayOf(withFields({ before: anyText, token: anyText, after: anyText }))),
});

/** A `BiasReport`, which is the output of `bias --json`. */
export const BIAS = withFields({
  name: anyText,
  block: finite,
  windowLength: finite,
  calibration: losses,
  text: losses,
  contexts: arrayOf(
    withFields({ calibration: optional(losses), text: optional(losses), lostShare: finite, covered: boolean }),
  ),
  uncovered: withFields({ lost: finite, text: finite, calibration: finite }),
  overlap: withFields({ passageLength: finite, sharedCount: finite, tokenCount: finite }),
  warnings: arrayOf(anyText),
  described: arrayOf(CONTEXT),
  perplexity: optional(METRIC),
});

const windowLoss = withFields({ nll: finite, tokenCount: finite });
const difference = withFields({ difference: finite, interval: arrayOf(finite) });

/** Output of `eval --json`, as far as a report shows it. */
export const EVALUATION = withFields({
  models: arrayOf(
    withFields({
      model: anyText,
      perplexity: optional(
        arrayOf(withFields({ text: anyText, perplexity: finite, protocol, windows: optional(arrayOf(windowLoss)) })),
      ),
      divergence: optional(
        arrayOf(
          withFields({
            text: anyText,
            reference: anyText,
            klDivergence: finite,
            top1Agreement: finite,
            intervals: optional(withFields({ klDivergence: arrayOf(finite), top1Agreement: arrayOf(finite) })),
            protocol: anyObject,
          }),
        ),
      ),
      tasks: optional(
        arrayOf(
          withFields({
            file: anyText,
            itemCount: optional(finite),
            acc: finite,
            accStderr: optional(finiteOrNull),
            accNorm: optional(finite),
            accNormStderr: optional(finiteOrNull),
            goldNll: optional(finite),
          }),
        ),
      ),
    }),
  ),
  comparisons: optional(
    arrayOf(
      withFields({
        file: anyText,
        a: anyText,
        b: anyText,
        kind: optional(choice(['task', 'perplexity'])),
        verdict: optional(choice(['same', 'worse', 'better'])),
        deciding: optional(arrayOf(anyText)),
        acc: optional(difference),
        accNorm: optional(difference),
        goldNll: optional(difference),
      }),
    ),
  ),
});

const median = withFields({ median: finite });
const speedup = withFields({ verdict: choice(['faster', 'slower', 'same']), interval: optional(arrayOf(finite)) });

/** Output of `bench --json`, as far as a report shows it. */
export const BENCHMARK = withFields({
  machine: withFields({ processor: anyText }),
  promptLength: finite,
  newTokens: finite,
  rounds: finite,
  models: arrayOf(
    withFields({
      model: anyText,
      fileBytes: finite,
      loadMs: median,
      prefillTokensPerSecond: median,
      decodeTokensPerSecond: median,
      peakMemoryBytes: finite,
    }),
  ),
  comparisons: optional(arrayOf(withFields({ model: anyText, reference: anyText, prefill: speedup, decode: speedup }))),
});

/** A `HealingReport`. */
export const HEALING = withFields({
  windowCount: finite,
  windowLength: finite,
  divergence: withFields({ before: finite, after: finite }),
  halvings: finite,
  keptStep: finite,
  curve: arrayOf(withFields({ step: finite, train: optional(finite), heldOut: optional(finite) })),
});

const meanWithInterval = withFields({ mean: finite, interval: optional(arrayOf(finite)) });

/** A `QualityReport`. */
export const QUALITY = withFields({
  from: choice(['source', 'text', 'calibration']),
  perplexity: withFields({ dense: finite, pruned: finite, changeInterval: optional(arrayOf(finite)) }),
  divergence: meanWithInterval,
  top1Agreement: meanWithInterval,
  protocol: withFields({ tokensSha256: anyText, windowLength: finite, windowCount: finite, tokenCount: finite }),
});

/** A `SideFilesReport`. */
export const SIDE_FILES = withFields({ copied: arrayOf(anyText), leftCount: finite });

/** A `CertificateReport`. */
export const CERTIFICATE = withFields({ opened: boolean, gap: finite, tokens: finite, tolerance: finite });

export const BEFORE_AFTER = withFields({ before: finite, after: finite });

/** An `EnvironmentReport`. */
export const ENVIRONMENT = withFields({
  runtime: anyText,
  platform: anyText,
  onnxRuntime: optional(anyText),
  executionProvider: optional(anyText),
  threads: optional(finite),
  cpu: optional(anyText),
});

/** A `VocabularyReport`, alone or in the report of a result. */
export const VOCABULARY = withFields({
  rows: BEFORE_AFTER,
  tokens: BEFORE_AFTER,
  reasons: withFields({ always: finite, text: finite, chosen: finite, parts: finite }),
  merges: optional(BEFORE_AFTER),
  bytes: BEFORE_AFTER,
  tables: arrayOf(withFields({ name: anyText, rows: BEFORE_AFTER, bytes: BEFORE_AFTER })),
  bitsPerByte: optional(
    withFields({ before: finite, after: finite, from: choice(['source', 'text']), textBytes: finite }),
  ),
  certificate: optional(
    withFields({ windows: finite, tokens: finite, gap: finite, equal: boolean, tolerance: finite }),
  ),
});
