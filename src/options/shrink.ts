import { DTYPES, type Dtype, type DtypeName } from '../quantisation/dtypes.js';
import { choice, integer, type Kind, listOf, namesOf } from './kinds.js';
import { type AnyRows, type OptionsOf, refusal, row } from './option.js';

/** Bytes: a number, or a text such as '60MB', '57.2 MiB' or '1.2GB'. */
export type Size = number | string;

/** Ways to make a model smaller. */
const REDUCTIONS = ['neurons', 'heads', 'experts', 'bits', 'vocabulary'] as const;
export type ReductionName = (typeof REDUCTIONS)[number];

/** Reductions that are chosen by their cost; the tokens of a vocabulary are chosen by the user. */
const CHOSEN = REDUCTIONS.filter((name) => name !== 'vocabulary');
export type ChosenReduction = (typeof CHOSEN)[number];

const UNITS = { '': 1, b: 1, kb: 1e3, mb: 1e6, gb: 1e9, kib: 2 ** 10, mib: 2 ** 20, gib: 2 ** 30 } as const;
const SIZE = /^\s*(\d+(?:\.\d+)?)\s*([kmg]i?b|b)?\s*$/i;

/** Parses a size to bytes; undefined if invalid. */
export function bytesOfSize(size: unknown): number | undefined {
  if (typeof size !== 'number' && typeof size !== 'string') return undefined;
  const [, digits, unit = ''] = SIZE.exec(`${size}`) ?? [];
  if (digits === undefined) return undefined;
  const bytes = Math.floor(Number(digits) * UNITS[unit.toLowerCase() as keyof typeof UNITS]);
  return Number.isSafeInteger(bytes) && bytes > 0 ? bytes : undefined;
}

const size: Kind<Size> = {
  accepts: (value): value is Size => bytesOfSize(value) !== undefined,
  expected: "bytes above 0, or a text such as '60MB', '57MiB' or '1.2GB'",
  typed: 'a size above 0 such as 60MB, 57MiB or 1.2GB',
  meant: (value) => {
    const point = typeof value === 'string' && value.includes(',') ? value.replace(',', '.') : undefined;
    return bytesOfSize(point) === undefined ? undefined : point;
  },
};

const sizes: Kind<Size | readonly Size[]> = {
  ...size,
  accepts: (value): value is Size | readonly Size[] =>
    Array.isArray(value) ? value.length > 0 && value.every(size.accepts) : size.accepts(value),
  expected: `${size.expected}, or a list of them`,
  typed: 'a size such as 60MB, 57MiB or 1.2GB, or several, such as 60MB,80MB',
  reads: 'sizes',
  item: size,
};

const isCodes = (name: string): name is DtypeName => {
  const { linears } = (DTYPES as Readonly<Record<string, Dtype>>)[name] ?? {};
  return linears?.kind === 'blocks' && linears.codebook === undefined;
};
const CODES = namesOf(DTYPES).filter(isCodes);

export const SHRINK_ROWS = {
  /**
   * Largest size of the model file and its external data in bytes: a number, or a text such as '60MB', '57MiB' or '1.2GB'.
   * Several sizes give several results from one measurement, each in a folder of `out` named by its size.
   */
  targetSize: row('-s, --target-size <size>', 'size of the model file, such as 60MB; several: 60MB,80MB', {
    kind: sizes,
    otherwise: 'none',
    common: true,
  }),
  /**
   * Instead of `targetSize`: largest size in bytes of the weights and the KV cache of `contextLength` tokens. Fewer KV heads make
   * the cache smaller.
   */
  targetMemory: row('--target-memory <size>', 'size of the weights and of the KV cache at --context, such as 200MB', {
    kind: sizes,
    otherwise: 'none',
  }),
  /** Tokens of one sequence whose KV cache `targetMemory` counts. */
  contextLength: row('--context <tokens>', 'tokens whose keys and values --target-memory counts', {
    kind: integer(1),
    otherwise: 'none',
  }),
  /**
   * Allowed reductions. Default: neurons, heads, experts and bits. `vocabulary` is allowed only together with `keepLanguages`,
   * `vocabularySize` or `vocabulary`, which imply it.
   */
  allow: row('--allow <reductions>', 'allowed reductions', {
    kind: { ...listOf(choice(REDUCTIONS), `a list of ${REDUCTIONS.join(', ')}`, 'names'), choices: REDUCTIONS },
    otherwise: CHOSEN.join(','),
    common: true,
  }),
  /**
   * Dtypes of single linear layers, in any order: `q8`, `q4` and `q2`, or `q4f16` and `q2f16`, whose activations are
   * half precision. Default `q8` and `q4`, which all runtimes read.
   */
  dtypes: row('--dtypes <names>', 'dtypes that each linear layer may be written in', {
    kind: { ...listOf(choice(CODES), `a list of ${CODES.join(', ')}`, 'names'), choices: CODES },
    otherwise: 'q8,q4',
    common: true,
  }),
} as const satisfies AnyRows;

/** Options of the target size and the allowed reductions. */
export interface ShrinkOptions extends OptionsOf<typeof SHRINK_ROWS> {}

/** Reductions, sizes and dtypes with defaults filled in. */
export interface ResolvedShrink {
  readonly targets: readonly { readonly bytes: number; readonly name: string }[];
  /** The option with the sizes. */
  readonly option: 'targetSize' | 'targetMemory';
  /** Tokens whose KV cache is counted; absent: only file bytes are counted. */
  readonly contextLength?: number | undefined;
  readonly allow: ReadonlySet<ChosenReduction>;
  /** Most bits first; empty if bits are not allowed. */
  readonly dtypes: readonly DtypeName[];
}

/**
 * @param isPlan whether sizes are optional
 * @throws OptionError for repeated sizes, no reduction, and incompatible dtypes.
 */
export function resolveShrink(given: ShrinkOptions, isPlan = false): ResolvedShrink {
  const { targetSize, targetMemory, contextLength, allow = CHOSEN, dtypes } = given;
  const option = targetMemory === undefined ? 'targetSize' : 'targetMemory';
  const requested = targetMemory ?? targetSize;
  if (requested === undefined && !isPlan)
    throw refusal('targetSize', 'is missing; expected a size such as 60MB, or a targetMemory');
  if (targetMemory !== undefined && targetSize !== undefined)
    throw refusal('targetMemory', 'and targetSize name two sizes; leave one of them out');
  if (targetMemory !== undefined && contextLength === undefined)
    throw refusal(
      'contextLength',
      'is missing; expected the number of tokens whose keys and values targetMemory counts',
    );
  if (targetMemory === undefined && contextLength !== undefined && !(isPlan && targetSize === undefined))
    throw refusal('contextLength', 'has no effect without targetMemory; leave it out');
  const targets = [requested ?? []].flat().map((size) => ({ bytes: bytesOfSize(size)!, name: sizeName(size) }));
  // Names such as 60MB and 60mb are one folder on some file systems.
  const repeated = targets.find(({ bytes }, at) => targets.findIndex((other) => other.bytes === bytes) < at);
  if (repeated !== undefined) throw refusal(option, `names ${repeated.name} twice; name it once`);
  if (allow.length === 0) throw refusal('allow', `is empty; expected one or several of ${REDUCTIONS.join(', ')}`);
  const reductions = CHOSEN.filter((name) => allow.includes(name));
  if (reductions.length === 0)
    throw refusal(
      'allow',
      `names the vocabulary alone, whose size the remaining tokens decide; trim it without a target size (trim-vocabulary), or add one or several of ${CHOSEN.join(', ')}`,
    );
  const mayRound = reductions.includes('bits');
  if (dtypes !== undefined && !mayRound)
    throw refusal('dtypes', 'has no effect unless bits are allowed; leave it out, or allow bits');
  const named = dtypes ?? ['q8', 'q4'];
  if (named.length === 0) throw refusal('dtypes', `is empty; expected one or several of ${CODES.join(', ')}`);
  const [first] = named;
  const mixed = named.find((name) => DTYPES[name].floats !== DTYPES[first!].floats);
  if (mixed !== undefined)
    throw refusal(
      'dtypes',
      `mixes ${first} and ${mixed}, whose activations differ in precision; choose q8, q4 and q2, or q4f16 and q2f16`,
    );
  const repeatedDtype = named.find((name, at) => named.indexOf(name) < at);
  if (repeatedDtype !== undefined) throw refusal('dtypes', `names ${repeatedDtype} twice; name it once`);
  const ordered = [...named].sort((a, b) => bitsOf(b) - bitsOf(a));
  return { targets, option, contextLength, allow: new Set(reductions), dtypes: mayRound ? ordered : [] };
}

/** Bits of a dtype in blocks. */
export function bitsOf(name: DtypeName): 2 | 4 | 8 {
  const { linears } = DTYPES[name];
  if (linears.kind !== 'blocks')
    throw refusal('dtypes', `names ${name}, which has no blocks; expected one of ${CODES.join(', ')}`);
  return linears.bits;
}

/** Folder name of a size: '60 MB' -> `60MB`. */
export const sizeName = (given: Size): string => String(given).replace(/\s+/g, '');
