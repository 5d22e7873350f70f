import { MODULE_KINDS } from '../architecture/layout.js';
import { ModelFormatError } from '../errors.js';
import {
  anyObject,
  anyText,
  arrayOf,
  boolean,
  choice,
  type Fields,
  findFault,
  finite,
  integer,
  type Kind,
  optional,
  withFields,
} from '../options/kinds.js';
import {
  BEFORE_AFTER,
  BIAS,
  CERTIFICATE,
  CONTEXT,
  ENVIRONMENT,
  HEALING,
  METRIC,
  QUALITY,
  SIDE_FILES,
  VOCABULARY,
} from './measurement-kinds.js';
import { type PruneReport, REPORT_SCHEMA } from './report-schema.js';
import { describeFault } from './saved-file.js';

const MAX_UNITS = 2 ** 31;

/** Positions of units, each once and ascending. */
export const positions: Kind<readonly number[]> = {
  accepts: (value): value is number[] =>
    Array.isArray(value) &&
    value.every((at, index) => Number.isInteger(at) && at > (index === 0 ? -1 : value[index - 1]) && at < MAX_UNITS),
  expected: 'a list of ascending positions',
  schema: { type: 'array', items: { type: 'integer', minimum: 0, exclusiveMaximum: MAX_UNITS }, uniqueItems: true },
};

const DTYPE = withFields({
  dtype: anyText,
  file: anyText,
  bytes: finite,
  parts: withFields({ ffn: finite, attention: finite, embedding: finite, head: finite, other: finite }),
  divergence: optional(
    withFields({ windowCount: finite, pruning: finite, quantising: finite, nearest: optional(finite) }),
  ),
  rounding: optional(withFields({ learned: finite, nearest: finite, costRatio: finite })),
  healing: optional(HEALING),
  certificate: optional(CERTIFICATE),
  quality: optional(QUALITY),
});

const SIZE = withFields({
  target: finite,
  contextLength: optional(finite),
  allow: arrayOf(anyText),
  candidates: arrayOf(
    withFields({
      kind: anyText,
      bytes: finite,
      sparsity: finite,
      maps: anyObject,
      divergence: withFields({ pruning: finite, quantising: finite }),
      predicted: optional(finite),
    }),
  ),
});

const CALIBRATION = withFields({
  windowCount: finite,
  windowLength: finite,
  leadingTokens: optional(arrayOf(finite)),
  generated: optional(withFields({ windowCount: finite, seed: finite })),
});

/** A `RoutingReport`. */
const ROUTING = withFields({ tokens: arrayOf(arrayOf(finite)), mutualInformation: finite });

const MODULE = withFields({
  block: integer(0),
  kind: choice(MODULE_KINDS),
  unitsBefore: integer(0),
  unitsAfter: integer(0),
  parametersBefore: finite,
  parametersAfter: finite,
  sparsity: finite,
  keep: positions,
  neurons: optional(BEFORE_AFTER),
  groups: optional(arrayOf(anyObject)),
  contexts: optional(arrayOf(CONTEXT)),
  topTokens: optional(withFields({ keptShare: finite, kept: CONTEXT, removed: CONTEXT })),
  routing: optional(ROUTING),
  costCurve: optional(withFields({ removed: arrayOf(finite), cost: arrayOf(finite) })),
});

/** Fields of a report that are checked: required ones, and optional ones that are read. */
export const REPORT = {
  version: anyText,
  createdAt: optional(anyText),
  environment: optional(ENVIRONMENT),
  model: anyText,
  hub: optional(withFields({ repo: anyText, revision: anyText, commit: anyText, license: optional(anyText) })),
  method: anyText,
  settings: anyObject,
  run: optional(anyText),
  sparsity: withFields({ requested: finite, achieved: finite, ofAllParameters: finite }),
  parameters: BEFORE_AFTER,
  bytes: BEFORE_AFTER,
  blocks: arrayOf(withFields({ index: integer(0), sparsity: finite, change: optional(finite) })),
  modules: arrayOf(MODULE),
  healing: optional(HEALING),
  certificate: optional(CERTIFICATE),
  quality: optional(QUALITY),
  dtypes: optional(arrayOf(DTYPE)),
  size: optional(SIZE),
  vocabulary: optional(VOCABULARY),
  calibration: optional(CALIBRATION),
  seed: finite,
  out: optional(anyText),
  peakMemoryBytes: optional(finite),
  sideFiles: optional(SIDE_FILES),
  timings: arrayOf(withFields({ stage: anyText, ms: finite })),
  remarks: arrayOf(anyText),
  metrics: optional(arrayOf(METRIC)),
  samples: optional(arrayOf(withFields({ prompt: anyText, dense: anyText, pruned: anyText }))),
  candidates: optional(arrayOf(withFields({ name: anyText, divergence: finite, chosen: boolean }))),
  statistics: optional(withFields({ file: anyText, sha256: anyText })),
  ladder: optional(
    arrayOf(
      withFields({
        requested: finite,
        achieved: finite,
        out: optional(anyText),
        parameters: finite,
        bytes: finite,
        perplexities: optional(arrayOf(withFields({ text: anyText, perplexity: finite }))),
      }),
    ),
  ),
  beside: optional(
    arrayOf(
      withFields({
        name: anyText,
        method: anyText,
        seed: finite,
        achieved: finite,
        parameters: finite,
        bytes: finite,
        metrics: arrayOf(METRIC),
      }),
    ),
  ),
  bias: optional(arrayOf(BIAS)),
} satisfies Fields;

/**
 * Checks the fields of a report that are read.
 * @param file for messages
 * @throws ModelFormatError naming file and field.
 */
export function checkReport(found: Readonly<Record<string, unknown>>, file: string): PruneReport {
  if (found.schema !== REPORT_SCHEMA) {
    throw new ModelFormatError(
      `${file} has "schema": ${JSON.stringify(found.schema)}; this version reads ${REPORT_SCHEMA}. Prune again, or use the version that wrote it.`,
    );
  }
  checkFields(found, withFields(REPORT), { file, remedy: 'Get the report again, or prune again.' });
  return found as unknown as PruneReport;
}

/** @throws ModelFormatError naming file and field. */
export function checkFields(value: unknown, kind: Kind<unknown>, { file, remedy }: { file: string; remedy: string }) {
  const fault = findFault(value, kind);
  if (fault !== undefined) throw new ModelFormatError(`${file}: ${describeFault(fault)}. ${remedy}`);
}
