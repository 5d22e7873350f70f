import { ModelFormatError } from '../errors.js';
import { BIAS, CERTIFICATE, HEALING, METRIC, QUALITY, SIDE_FILES, VOCABULARY } from './measurement-shapes.js';
import { type PruneReport, REPORT_SCHEMA } from './report-schema.js';
import { listOf, number, object, optional, positions, type Shape, text, withFields } from './shape.js';

const beforeAfter = withFields({ before: number, after: number });

const DTYPE = withFields({
  dtype: text,
  file: text,
  bytes: number,
  parts: withFields({ ffn: number, attention: number, embedding: number, head: number, other: number }),
  divergence: optional(
    withFields({ windowCount: number, pruning: number, quantising: number, nearest: optional(number) }),
  ),
  rounding: optional(withFields({ learned: number, nearest: number, costRatio: number })),
  certificate: optional(CERTIFICATE),
  quality: optional(QUALITY),
});

const SIZE = withFields({
  target: number,
  contextLength: optional(number),
  allow: listOf(text),
  candidates: listOf(
    withFields({
      kind: text,
      bytes: number,
      sparsity: number,
      maps: object,
      divergence: withFields({ pruning: number, quantising: number }),
      predicted: optional(number),
    }),
  ),
});

const CALIBRATION = withFields({
  windowCount: number,
  windowLength: number,
  leadingTokens: optional(listOf(number)),
  generated: optional(withFields({ windowCount: number, seed: number })),
});

/** What every report has, and what is read where it is there. */
const REPORT = withFields({
  version: text,
  model: text,
  method: text,
  settings: object,
  sparsity: withFields({ requested: number, achieved: number, ofAllParameters: number }),
  parameters: beforeAfter,
  bytes: beforeAfter,
  blocks: listOf(object),
  modules: listOf(
    withFields({ keep: optional(positions), groups: optional(listOf(object)), neurons: optional(beforeAfter) }),
  ),
  healing: optional(HEALING),
  certificate: optional(CERTIFICATE),
  quality: optional(QUALITY),
  dtypes: optional(listOf(DTYPE)),
  size: optional(SIZE),
  vocabulary: optional(VOCABULARY),
  calibration: optional(CALIBRATION),
  seed: number,
  out: optional(text),
  peakMemoryBytes: optional(number),
  sideFiles: optional(SIDE_FILES),
  timings: listOf(withFields({ stage: text, ms: number })),
  remarks: listOf(text),
  metrics: optional(listOf(METRIC)),
  samples: optional(listOf(withFields({ prompt: text, dense: text, pruned: text }))),
  ladder: optional(listOf(object)),
  beside: optional(
    listOf(
      withFields({
        name: text,
        method: text,
        seed: number,
        achieved: number,
        parameters: number,
        bytes: number,
        metrics: listOf(METRIC),
      }),
    ),
  ),
  bias: optional(listOf(BIAS)),
});

/**
 * Checks that a JSON object is a report, as far as reading it asks for.
 * @param file for messages
 * @throws ModelFormatError naming file and field.
 */
export function checkReport(found: Readonly<Record<string, unknown>>, file: string): PruneReport {
  if (found.schema !== REPORT_SCHEMA) {
    throw new ModelFormatError(
      `${file} says "schema": ${JSON.stringify(found.schema)}; this version reads ${REPORT_SCHEMA}. Prune again, or use the version that wrote it.`,
    );
  }
  checkShape(found, REPORT, { file, remedy: 'Get the report again, or prune again.' });
  return found as unknown as PruneReport;
}

/** @throws ModelFormatError naming file and field. */
export function checkShape(value: unknown, shape: Shape, { file, remedy }: { file: string; remedy: string }): void {
  const wrong = shape(value, '');
  if (wrong !== undefined) throw new ModelFormatError(`${file}: ${wrong}. ${remedy}`);
}
