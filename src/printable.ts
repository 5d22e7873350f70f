/** Terminal control characters, and bidirectional overrides. */
const CONTROL_CHARACTERS = /[\p{Cc}\p{Bidi_Control}]/gu;

/** Escapes control characters except line breaks and tabs, such as `\u001b`. */
export function printable(text: string): string {
  return text.replace(CONTROL_CHARACTERS, (character) =>
    character === '\n' || character === '\t'
      ? character
      : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** Longest message in characters. */
const MESSAGE_LIMIT = 4000;

/** Longest quoted value in characters. */
const VALUE_LIMIT = 100;

/** Longest path that is not truncated. */
const PATH_LIMIT = 260;

/** Truncates a quoted value. */
export function cutValue(text: string): string {
  return text.length <= VALUE_LIMIT ? text : `${text.slice(0, VALUE_LIMIT)}...`;
}

/** Truncates very long words of a message, except paths. */
function cutWords(text: string): string {
  return text.replace(/\S{101,}/gu, (word) =>
    /[\\/]/.test(word) && word.length <= PATH_LIMIT
      ? word
      : `${cutValue(word)}${/["')\]},;:.]*$/.exec(word)![0].slice(-2)}`,
  );
}

/**
 * A printable message: values are truncated, and the middle of a long message is omitted, since it ends with advice.
 */
export const printableMessage = (text: string): string => printable(shorten(cutWords(text)));

/** Omits the middle of a message that is too long for display and patterns. */
export function shorten(text: string): string {
  const half = MESSAGE_LIMIT / 2;
  return text.length <= MESSAGE_LIMIT ? text : `${text.slice(0, half)} ... ${text.slice(-half)}`;
}
