import { ModelFormatError } from '../errors.js';
import { isRecord } from '../parse-json.js';
import { type PruneReport, REPORT_SCHEMA } from './report-schema.js';

const isText = (value: unknown): boolean => typeof value === 'string';
const isListOf = (isItem: (value: unknown) => boolean) => (value: unknown) =>
  Array.isArray(value) && value.every(isItem);

/** A module as far as a page is drawn from it. */
function isModule(value: unknown): boolean {
  const { keep, groups } = Object(value) as Readonly<Record<string, unknown>>;
  return (
    isRecord(value) && [keep, groups].every((list) => list === undefined || Array.isArray(list)) && hasObjects(groups)
  );
}

const hasObjects = (value: unknown): boolean => value === undefined || isListOf(isRecord)(value);

/** What every report has, and lists that are read where they are there. */
const FIELDS: Readonly<Record<string, (value: unknown) => boolean>> = {
  ...Object.fromEntries(['version', 'model', 'method'].map((name) => [name, isText])),
  ...Object.fromEntries(['settings', 'sparsity', 'parameters', 'bytes'].map((name) => [name, isRecord])),
  ...Object.fromEntries(['metrics', 'ladder', 'bias'].map((name) => [name, hasObjects])),
  blocks: isListOf(isRecord),
  modules: isListOf(isModule),
};

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
  const wrong = Object.entries(FIELDS).find(([name, isRight]) => !isRight(found[name]));
  if (wrong === undefined) return found as unknown as PruneReport;
  throw new ModelFormatError(`${file}: ${wrong[0]} is not as a report has it. Get the report again, or prune again.`);
}
