import { InvalidArgumentError } from 'commander';
import type { BlockSparsity } from '../options.js';

/** `0.3` or `30%`; the range is the library's to check. */
export function parseFraction(text: string): number {
  const percent = text.endsWith('%');
  return parseNumber(percent ? text.slice(0, -1) : text) / (percent ? 100 : 1);
}

/** `0.1,20%` and repeated options: all fractions in order. */
export function parseFractions(text: string, previous: readonly number[] = []): readonly number[] {
  return [...previous, ...text.split(',').map((part) => parseFraction(part.trim()))];
}

/** A fraction, or `none` for no bound. */
export function parseBalance(text: string): number {
  return text === 'none' ? Number.POSITIVE_INFINITY : parseFraction(text);
}

/** A whole number. */
export function parseCount(text: string): number {
  const value = parseNumber(text);
  if (!Number.isSafeInteger(value)) throw new InvalidArgumentError('Expected a whole number.');
  return value;
}

/** `0,1,5` and repeated options: all numbers in order. */
export function parseIndices(text: string, previous: readonly number[] = []): readonly number[] {
  return [...previous, ...text.split(',').map((part) => parseCount(part.trim()))];
}

/** `cuda,cpu` and repeated options: all names in order. */
export function parseNames(text: string, previous: readonly string[] = []): readonly string[] {
  return [...previous, ...text.split(',').map((part) => part.trim())];
}

/** Repeated options: all values in order, commas left alone. */
export function collect(text: string, previous: readonly string[] = []): readonly string[] {
  return [...previous, text];
}

/** Any finite number. */
export function parseNumber(text: string): number {
  const value = text.trim() === '' ? Number.NaN : Number(text);
  if (!Number.isFinite(value)) throw new InvalidArgumentError('Expected a number.');
  return value;
}

/** `3=0.5,4.ffn=20%` and repeated options: sparsities by block, of a block or of one of its modules. */
export function parseBlockSparsity(text: string, previous: Readonly<Record<number, BlockSparsity>> = {}) {
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
