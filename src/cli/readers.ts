import { InvalidArgumentError } from 'commander';
import type { Reader } from '../options/kinds.js';
import type { BlockSparsity } from '../options.js';

/** How an argument becomes a value, by what an option's row says; earlier ones of the same flag come along. */
export const READERS: Readonly<Record<Reader, (text: string, previous: never) => unknown>> = {
  balance: parseBalance,
  blockSparsity: parseBlockSparsity,
  count: parseCount,
  file: (file) => ({ file }),
  fraction: parseFraction,
  fractions: parseFractions,
  indices: parseIndices,
  names: parseNames,
  number: parseNumber,
  share: (text) => ({ share: parseFraction(text) }),
  texts: collect,
};

/** `0.3` or `30%`; the range is the library's to check. */
function parseFraction(text: string): number {
  const percent = text.endsWith('%');
  return parseNumber(percent ? text.slice(0, -1) : text) / (percent ? 100 : 1);
}

/** `0.1,20%` and repeated options: all fractions in order. */
function parseFractions(text: string, previous: readonly number[] = []): readonly number[] {
  return [...previous, ...text.split(',').map((part) => parseFraction(part.trim()))];
}

/** A fraction, or `none` for no bound. */
function parseBalance(text: string): number {
  return text === 'none' ? Number.POSITIVE_INFINITY : parseFraction(text);
}

/** A whole number. */
function parseCount(text: string): number {
  const value = parseNumber(text);
  if (!Number.isSafeInteger(value)) throw new InvalidArgumentError('Expected a whole number.');
  return value;
}

/** `0,1,5` and repeated options: all numbers in order. */
function parseIndices(text: string, previous: readonly number[] = []): readonly number[] {
  return [...previous, ...text.split(',').map((part) => parseCount(part.trim()))];
}

/** `cuda,cpu` and repeated options: all names in order. */
function parseNames(text: string, previous: readonly string[] = []): readonly string[] {
  return [...previous, ...text.split(',').map((part) => part.trim())];
}

/** Repeated options: all values in order, commas left alone. */
function collect(text: string, previous: readonly string[] = []): readonly string[] {
  return [...previous, text];
}

/** Any finite number. */
function parseNumber(text: string): number {
  const value = text.trim() === '' ? Number.NaN : Number(text);
  if (!Number.isFinite(value)) throw new InvalidArgumentError('Expected a number.');
  return value;
}

/** `3=0.5,4.ffn=20%` and repeated options: sparsities by block, of a block or of one of its modules. */
function parseBlockSparsity(text: string, previous: Readonly<Record<number, BlockSparsity>> = {}) {
  const found: Record<number, BlockSparsity> = { ...previous };
  for (const part of text.split(',')) {
    const [, block, kind, fraction] = /^\s*(\d+)(?:\.(ffn|attention))?=(.+)$/.exec(part) ?? [];
    if (block === undefined || fraction === undefined)
      throw new InvalidArgumentError('Expected a block and its sparsity, such as 3=0.5 or 3.ffn=50%.');
    const sparsity = parseFraction(fraction.trim());
    const known = found[Number(block)];
    const modules = typeof known === 'object' ? known : {};
    found[Number(block)] = kind === undefined ? sparsity : { ...modules, [kind]: sparsity };
  }
  return found;
}
