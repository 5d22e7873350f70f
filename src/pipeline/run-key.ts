import type { JobControl } from '../progress.js';
import type { Engine } from '../runtime/engine.js';
import type { EngineChoice, Platform } from '../runtime/platform.js';
import { hashFiles, hashFilesCached, hashModel } from '../storage/hash-files.js';
import type { PairPaths } from '../storage/json-with-tensors.js';
import type { ModelFolder } from '../storage/model-folder.js';
import { VERSION } from '../version.js';
import { describeEnvironment } from './describe-environment.js';

/** Facts that determine a result besides the request. */
export interface KeyInput extends JobControl {
  /** Models of the call, in order. */
  readonly folders: readonly ModelFolder[];
  readonly engine: Engine;
  /** Statistics that replace measuring the model. */
  readonly place?: PairPaths | undefined;
  /** Name of the call. */
  readonly call: string;
}

/** Options that do not affect the result's bytes (paths, checks, reports, resuming), and sparsity or size, which `keyAt` adds. */
const IGNORED: ReadonlySet<string> = new Set([
  'sparsity',
  'targetSize',
  'targetMemory',
  'model',
  'dense',
  'pruned',
  'out',
  'report',
  'certify',
  'reportPaths',
  'recipe',
  'force',
  'resume',
  'stopHealing',
  'isolate',
  'offline',
  'onProgress',
  'signal',
]);

/**
 * Key of a run without sparsity: runs with equal keys write equal bytes. SHA-256 over the model's files, the options,
 * the texts, the library's version and the engine.
 * @returns undefined if options contain functions, or a pipe, which cannot be compared, or runs cannot be resumed.
 * @throws ModelFormatError when the model cannot be read.
 */
export async function runKey(
  platform: Platform,
  request: object & EngineChoice,
  { folders, engine, call, place, ...control }: KeyInput,
): Promise<string | undefined> {
  // Hashing a model is slow, and without workspaces no run can be resumed.
  if (platform.openWorkspace === undefined) return undefined;
  const options = Object.entries(request).filter(([name, value]) => !IGNORED.has(name) && !isSwitch(name, value));
  const text = textOf(Object.fromEntries(options));
  const texts = await hashTexts(platform, request as TextOptions, control);
  if (text === undefined || texts === undefined) return undefined;
  const documents = folders.map((folder) => folder.documents);
  const facts = { call, version: VERSION, documents, environment: describeEnvironment(platform, engine) };
  const hash = platform.createHash();
  // The JSON file contains the hash of its tensors.
  const statistics = place && (await hashFiles(platform, [place.json], control.signal).catch(() => 'none'));
  const models: string[] = [];
  for (const folder of folders) models.push(await hashModel(folder, control));
  for (const part of [...models, JSON.stringify(facts), text, statistics ?? 'none', ...texts])
    hash.update(new TextEncoder().encode(`${part}\n`));
  return hash.digest();
}

interface TextOptions {
  readonly calibration?: { readonly source?: unknown } | undefined;
  readonly evaluation?: unknown;
}

/**
 * SHA-256 of the texts that a run calibrates on or leaves out of healing, since files may have other contents by now; undefined if one
 * cannot be read, or only once, as a pipe.
 */
async function hashTexts(platform: Platform, { calibration, evaluation }: TextOptions, control: JobControl) {
  const { file } = Object(calibration?.source) as { readonly file?: unknown };
  const { texts = [] } = Object(evaluation) as { readonly texts?: readonly unknown[] };
  const hashes: string[] = [];
  for (const path of [file, ...texts]) {
    if (typeof path !== 'string') continue;
    const hash = await hashFilesCached(platform, [platform.files.resolve(path)], control).catch(() => undefined);
    control.signal?.throwIfAborted();
    if (hash === undefined) return undefined;
    hashes.push(hash);
  }
  return hashes;
}

/** Whether an option only switches measurements of the finished result. */
const isSwitch = (name: string, value: unknown): boolean => name === 'evaluation' && typeof value === 'boolean';

/** The key for some sparsities. */
export function keyAt(
  { createHash }: Platform,
  key: string | undefined,
  sparsities: readonly number[],
): string | undefined {
  if (key === undefined) return undefined;
  const hash = createHash();
  hash.update(new TextEncoder().encode(`${key} ${sparsities.join()}`));
  return hash.digest();
}

/** Canonical text of a value; undefined for functions and streams. */
function textOf(value: unknown): string | undefined {
  if (typeof value === 'number' || typeof value === 'bigint') return String(value);
  if (value === null || value === undefined || typeof value === 'boolean' || typeof value === 'string')
    return JSON.stringify(value) ?? 'undefined';
  if (typeof value !== 'object') return undefined;
  if (ArrayBuffer.isView(value) && !(value instanceof DataView)) return listText(value as unknown as Iterable<unknown>);
  if (Array.isArray(value) || value instanceof Set || value instanceof Map) return listText(value);
  if (Object.getPrototypeOf(value) !== Object.prototype) return undefined;
  const entries = Object.entries(value).filter(([, item]) => item !== undefined);
  return listText(entries.sort(([a], [b]) => (a < b ? -1 : 1)));
}

function listText(values: Iterable<unknown>): string | undefined {
  const names: string[] = [];
  for (const value of values) {
    const name = textOf(value);
    if (name === undefined) return undefined;
    names.push(name);
  }
  return `[${names.join()}]`;
}
