/** Characters that control a terminal, and those that reverse the order of letters. */
const CONTROL_CHARACTERS = /[\p{Cc}\p{Bidi_Control}]/gu;

/** A text that a terminal shows as it is: control characters but for line breaks and tabs become `\u001b` and the like. */
export function printable(text: string): string {
  return text.replace(CONTROL_CHARACTERS, (character) =>
    character === '\n' || character === '\t'
      ? character
      : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** Characters of a message; names in files may be of any length. */
const MESSAGE_LIMIT = 4000;

/** Characters of a value that a message shows. */
const VALUE_LIMIT = 100;

/** Longest path that is shown whole. */
const PATH_LIMIT = 260;

/** A value as messages show it: the beginning of one that is too long. */
export function cutValue(text: string): string {
  return text.length <= VALUE_LIMIT ? text : `${text.slice(0, VALUE_LIMIT)}...`;
}

/** Cuts every word of a message that is too long to be one, wherever it came from. Paths are shown whole. */
function cutWords(text: string): string {
  return text.replace(/\S{101,}/gu, (word) =>
    /[\\/]/.test(word) && word.length <= PATH_LIMIT
      ? word
      : `${cutValue(word)}${/["')\]},;:.]*$/.exec(word)![0].slice(-2)}`,
  );
}

/**
 * A printable message: values are cut, and its middle is left out if it is too long, since a message ends with advice.
 */
export const printableMessage = (text: string): string => printable(shorten(cutWords(text)));

/** A message without its middle where that is too long to be shown, or to be searched by patterns. */
export function shorten(text: string): string {
  const half = MESSAGE_LIMIT / 2;
  return text.length <= MESSAGE_LIMIT ? text : `${text.slice(0, half)} ... ${text.slice(-half)}`;
}
