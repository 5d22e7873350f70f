import type { ResolvedOptions } from '../options.js';
import type { JsonValue } from './report-schema.js';

/** Of the run, not of what was asked: ports, code, and what the report says elsewhere. */
const NOT_SETTINGS = new Set([
  ...['adapter', 'orderAdapter', 'allocation', 'methodName', 'allocationName'],
  ...['calibrationDefaults', 'onProgress', 'signal'],
]);

/** All options of a run as JSON can hold them: sets and maps as lists and objects, infinite numbers in words. */
export function plainSettings(options: ResolvedOptions): Record<string, JsonValue> {
  const settings = Object.entries(options).filter(([name, value]) => !NOT_SETTINGS.has(name) && value !== undefined);
  const { methodName: method, allocationName: allocation } = options;
  return { method, allocation, ...Object.fromEntries(settings.map(([name, value]) => [name, plain(value)])) };
}

function plain(value: unknown): JsonValue {
  if (value instanceof Set) return [...value].map(plain);
  if (value instanceof Map) return Object.fromEntries([...value].map(([key, item]) => [String(key), plain(item)]));
  if (Array.isArray(value)) return value.map(plain);
  if (ArrayBuffer.isView(value)) return Array.from(value as unknown as ArrayLike<number>, plain);
  if (typeof value === 'number') return Number.isFinite(value) ? value : String(value);
  if (typeof value === 'string' || typeof value === 'boolean' || value === null) return value;
  if (typeof value === 'object') {
    const fields = Object.entries(value).filter(([, item]) => item !== undefined && typeof item !== 'function');
    return Object.fromEntries(fields.map(([name, item]) => [name, plain(item)]));
  }
  return String(value);
}
