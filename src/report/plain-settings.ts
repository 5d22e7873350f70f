import type { CalibrationProvenance } from '../calibration/calibration-set.js';
import type { AnyRows } from '../options/option.js';
import { CONTROL } from '../options/run.js';
import {
  type CalibrationOptions,
  factsOf,
  PRUNE_ROWS,
  type ResolvedCalibration,
  type ResolvedOptions,
} from '../options.js';
import type { JsonValue } from './report-schema.js';

/** Settings of a run other than its pruning options. */
export interface RunSettings {
  /** Absent: the run calibrated on no windows. */
  readonly calibration?: CalibrationSettings | undefined;
  readonly statistics?: string | undefined;
  readonly bos?: boolean | undefined;
  readonly embeddings?: string | undefined;
  readonly weightsFrom?: string | undefined;
  readonly executionProvider?: string | readonly string[] | undefined;
  readonly keepLanguages?: readonly string[] | undefined;
  readonly vocabularySize?: number | undefined;
  /** File of the remaining tokens. */
  readonly vocabulary?: string | undefined;
}

/**
 * All options that had an effect on a run, with their defaults, as JSON: `prune` with these options repeats the run. Objects
 * with code are named only.
 */
export function plainSettings(options: ResolvedOptions, run: RunSettings = {}): Record<string, JsonValue> {
  const { methodName: method, allocationName: allocation, modules, modulesNamed, grouping } = options;
  const named = modules.size > 1 ? 'all' : [...modules][0];
  const facts = factsOf(options);
  // Statistics replace calibration tokens, except windows that repairs read again.
  const readsBlocks = run.statistics === undefined || run.calibration !== undefined;
  const found = { ...facts, measuresBlocks: facts.measuresBlocks && readsBlocks };
  const values: Readonly<Record<string, unknown>> = {
    ...options,
    method,
    allocation,
    modules: modulesNamed ? named : undefined,
    grouping: grouping ?? false,
  };
  const effective = Object.entries(PRUNE_ROWS as AnyRows)
    .filter(([name, { applies }]) => !Object.hasOwn(CONTROL, name) && applies?.within(found, values[name]) !== false)
    .map(([name]) => [name, values[name]]);
  return plainObject({ ...Object.fromEntries(effective), ...run });
}

/** Calibration options that reproduce the windows of a run; a source in memory is named only. */
export interface CalibrationSettings extends Omit<CalibrationOptions, 'source'> {
  readonly source: { readonly file: string } | string | undefined;
}

export function calibrationSettings(
  { source, windowCount }: ResolvedCalibration,
  { windowLength, selection, generated }: CalibrationProvenance,
): CalibrationSettings {
  const { seed, startToken, temperature, documentLength, windowCount: count = 0 } = generated ?? {};
  const share = count / windowCount;
  const written = { share, temperature, documentLength, startToken, seed };
  const origin = source === undefined || 'file' in source ? source : Object.keys(source)[0];
  return { source: origin, windowCount, windowLength, selection, generate: generated !== undefined && written };
}

function plain(value: unknown): JsonValue {
  if (value instanceof Set) return [...value].map(plain);
  if (value instanceof Map) return Object.fromEntries([...value].map(([key, item]) => [String(key), plain(item)]));
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value === 'number') return Number.isFinite(value) ? value : String(value);
  if (typeof value === 'string' || typeof value === 'boolean' || value === null) return value;
  if (typeof value !== 'object') return String(value);
  return plainObject(value as object);
}

const plainObject = (value: object): Record<string, JsonValue> =>
  Object.fromEntries(
    Object.entries(value).flatMap(([name, item]) => (item === undefined ? [] : [[name, plain(item)]])),
  );
