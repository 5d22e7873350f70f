import { InvalidArgumentError } from 'commander';

/** `0.3` or `30%`; the range is the library's to check. */
export function parseFraction(text: string): number {
  const percent = text.endsWith('%');
  return parseNumber(percent ? text.slice(0, -1) : text) / (percent ? 100 : 1);
}

/** `0.1,20%` and repeated options: all fractions in order. */
export function parseFractions(text: string, previous: readonly number[] = []): readonly number[] {
  return [...previous, ...text.split(',').map((part) => parseFraction(part.trim()))];
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
