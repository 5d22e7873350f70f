import { MODULE_KINDS } from '../architecture/layout.js';
import { OptionError } from '../errors.js';
import type { Reader } from '../options/kinds.js';

/** Parsers of arguments by the reader of an option's row; `previous` has the earlier values of the same flag. */
export const READERS: Readonly<Record<Reader, (text: string, previous: never) => unknown>> = {
  blockSparsity: parseBlockSparsity,
  count: parseNumber,
  file: (file) => ({ file }),
  fraction: parseFraction,
  fractions: parseFractions,
  names: parseNames,
  number: parseNumber,
  share: (text) => ({ share: parseFraction(text) }),
  sizes: parseSizes,
  texts: collect,
};

/** `0.3` or `30%`. Anything else, and percentages outside 0 to 100, remains text, which the option's check rejects. */
function parseFraction(text: string): number | string {
  const percent = text.endsWith('%');
  const value = parseNumber(percent ? text.slice(0, -1) : text);
  if (typeof value === 'string' || !percent) return typeof value === 'string' ? text : value;
  return value >= 0 && value <= 100 ? value / 100 : text;
}

/** `0.1,20%` and repeated options: all fractions in order. */
function parseFractions(text: string, previous: readonly (number | string)[] = []): readonly (number | string)[] {
  return [...previous, ...text.split(',').map((part) => parseFraction(part.trim()))];
}

/** `cuda,cpu` and repeated options: all names in order. */
function parseNames(text: string, previous: readonly string[] = []): readonly string[] {
  return [...previous, ...text.split(',').map((part) => part.trim())];
}

/** `60MB,80MB` and repeated options. `1,5MB` is a decimal comma, not a list: it remains text, which the option's check rejects. */
function parseSizes(text: string, previous: readonly string[] = []): readonly string[] {
  const parts = text.split(',').map((part) => part.trim());
  const haveUnits = parts.every((part) => /[a-z]$/i.test(part));
  return [...previous, ...(haveUnits ? parts : [text])];
}

/** Repeated options: all values in order, without splitting at commas. */
function collect(text: string, previous: readonly string[] = []): readonly string[] {
  return [...previous, text];
}

/** Any finite number. Anything else remains text, which the option's check rejects. */
function parseNumber(text: string): number | string {
  const value = text.trim() === '' ? Number.NaN : Number(text);
  return Number.isFinite(value) ? value : text;
}

/** Captures a block, a kind of module if one is named, and a fraction. */
const BLOCK_PART = new RegExp(`^\\s*(\\d+)(?:\\.(${MODULE_KINDS.join('|')}))?=(.+)$`);

/** `3=0.5,4.ffn=20%` and repeated options: sparsities by block, of a block or of one of its modules. */
function parseBlockSparsity(text: string, previous: unknown = {}): unknown {
  const found: Record<string, unknown> = { ...(previous as object) };
  for (const part of text.split(',')) {
    const [, block, kind, fraction] = BLOCK_PART.exec(part) ?? [];
    // The option's check rejects a text.
    if (block === undefined || fraction === undefined) return part;
    const sparsity = parseFraction(fraction.trim());
    const known = found[block];
    const isRepeated = typeof known === 'object' && kind !== undefined ? kind in known! : known !== undefined;
    if (isRepeated)
      throw new OptionError(`--block-sparsity names block ${block} more than once (${part.trim()}); give one value`, {
        option: 'blockSparsity',
      });
    found[block] = kind === undefined ? sparsity : { ...(known as object | undefined), [kind]: sparsity };
  }
  return found;
}
