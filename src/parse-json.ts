/** Deeper than any valid file, and safe for recursive functions. */
const MAX_DEPTH = 100;

/** Parses JSON from a file. @throws SyntaxError for invalid JSON, or more than 100 nested levels. */
export function parseJson(text: string): unknown {
  if (isDeep(text)) throw new SyntaxError(`it is nested deeper than ${MAX_DEPTH} levels`);
  return JSON.parse(text);
}

/** Whether a value is an object, and not null or a list. */
export const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const [QUOTE, BACKSLASH, OPENING, CLOSING] = [0x22, 0x5c, 0x7b, 0x7d] as const;

function isDeep(text: string): boolean {
  let depth = 0;
  let isInString = false;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) isInString = !isInString;
    else if (isInString) at += code === BACKSLASH ? 1 : 0;
    // Brackets and braces differ in one bit.
    else if ((code | 0x20) === OPENING) {
      if (++depth > MAX_DEPTH) return true;
    } else if ((code | 0x20) === CLOSING) depth--;
  }
  return false;
}
