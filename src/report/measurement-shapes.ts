import { flag, listOf, number, numberOrNull, object, oneOf, optional, text, withFields } from './shape.js';

const protocol = withFields({ tokensSha256: text });

/** A `MetricReport`. */
export const METRIC = withFields({
  kind: oneOf('perplexity', 'accuracy', 'speed', 'memory', 'other'),
  name: text,
  dense: optional(number),
  pruned: number,
  bitsPerByte: optional(withFields({ dense: optional(number), pruned: number })),
  unit: optional(text),
  better: oneOf('lower', 'higher'),
  standardErrors: optional(withFields({ dense: optional(number), pruned: number })),
  changeInterval: optional(listOf(number)),
  verdict: optional(oneOf('same', 'worse', 'better')),
  protocol: optional(object),
  note: optional(text),
});

const losses = withFields({ tokenCount: number, dense: number, pruned: number, standardError: optional(number) });

/** A `ContextReport`. */
const context = withFields({
  tokenCount: number,
  tokens: optional(listOf(withFields({ text, count: number, lift: number }))),
  examples: optional(listOf(withFields({ before: text, token: text, after: text }))),
});

/** A `BiasReport`, and what `bias --json` prints. */
export const BIAS = withFields({
  name: text,
  block: number,
  windowLength: number,
  calibration: losses,
  text: losses,
  contexts: listOf(
    withFields({ calibration: optional(losses), text: optional(losses), lostShare: number, covered: flag }),
  ),
  uncovered: withFields({ lost: number, text: number, calibration: number }),
  overlap: withFields({ passageLength: number, sharedCount: number, tokenCount: number }),
  warnings: listOf(text),
  described: listOf(context),
  perplexity: optional(METRIC),
});

const windowLoss = withFields({ nll: number, tokenCount: number });
const difference = withFields({ difference: number, interval: listOf(number) });

/** What `eval --json` prints, as far as a report shows it. */
export const EVALUATION = withFields({
  models: listOf(
    withFields({
      model: text,
      perplexity: optional(
        listOf(withFields({ text, perplexity: number, protocol, windows: optional(listOf(windowLoss)) })),
      ),
      divergence: optional(
        listOf(
          withFields({
            text,
            reference: text,
            klDivergence: number,
            top1Agreement: number,
            intervals: optional(withFields({ klDivergence: listOf(number), top1Agreement: listOf(number) })),
            protocol: object,
          }),
        ),
      ),
      tasks: optional(
        listOf(
          withFields({
            file: text,
            itemCount: optional(number),
            acc: number,
            accStderr: optional(numberOrNull),
            accNorm: optional(number),
            accNormStderr: optional(numberOrNull),
            goldNll: optional(number),
          }),
        ),
      ),
    }),
  ),
  comparisons: optional(
    listOf(
      withFields({
        file: text,
        a: text,
        b: text,
        kind: optional(oneOf('task', 'perplexity')),
        verdict: optional(oneOf('same', 'worse', 'better')),
        deciding: optional(listOf(text)),
        acc: optional(difference),
        accNorm: optional(difference),
        goldNll: optional(difference),
      }),
    ),
  ),
});

const median = withFields({ median: number });
const speedup = withFields({ verdict: oneOf('faster', 'slower', 'same'), interval: optional(listOf(number)) });

/** What `bench --json` prints, as far as a report shows it. */
export const BENCHMARK = withFields({
  machine: withFields({ processor: text }),
  promptLength: number,
  newTokens: number,
  rounds: number,
  models: listOf(
    withFields({
      model: text,
      fileBytes: number,
      loadMs: median,
      prefillTokensPerSecond: median,
      decodeTokensPerSecond: median,
      peakMemoryBytes: number,
    }),
  ),
  comparisons: optional(listOf(withFields({ model: text, reference: text, prefill: speedup, decode: speedup }))),
});

/** A `HealingReport`. */
export const HEALING = withFields({
  windowCount: number,
  windowLength: number,
  divergence: withFields({ before: number, after: number }),
  halvings: number,
  keptStep: number,
  curve: listOf(withFields({ step: number, train: optional(number), heldOut: optional(number) })),
});

const meanWithInterval = withFields({ mean: number, interval: optional(listOf(number)) });

/** A `QualityReport`. */
export const QUALITY = withFields({
  from: oneOf('source', 'text', 'calibration'),
  perplexity: withFields({ dense: number, pruned: number, changeInterval: optional(listOf(number)) }),
  divergence: meanWithInterval,
  top1Agreement: meanWithInterval,
  protocol: withFields({ tokensSha256: text, windowLength: number, windowCount: number, tokenCount: number }),
});
/** A `SideFilesReport`. */
export const SIDE_FILES = withFields({ copied: listOf(text), leftCount: number });

/** A `CertificateReport`. */
export const CERTIFICATE = withFields({ opened: flag, gap: number, tokens: number, tolerance: number });

const beforeAfter = withFields({ before: number, after: number });

/** A `VocabularyReport`, alone or in the report of a result. */
export const VOCABULARY = withFields({
  rows: beforeAfter,
  tokens: beforeAfter,
  reasons: withFields({ always: number, text: number, chosen: number, parts: number }),
  merges: optional(beforeAfter),
  bytes: beforeAfter,
  tables: listOf(withFields({ name: text, rows: beforeAfter, bytes: beforeAfter })),
  bitsPerByte: optional(
    withFields({ before: number, after: number, from: oneOf('source', 'text'), textBytes: number }),
  ),
  certificate: optional(withFields({ windows: number, tokens: number, gap: number, equal: flag, tolerance: number })),
});
