import { isInCharacterSet } from '../../src/vocabulary/is-in-character-set.js';
import { characterSetOf } from '../../src/vocabulary/languages.js';

const bytesOf = (text: string) => new TextEncoder().encode(text);

describe('tokens of a language', () => {
  it.each([
    ['en', ['the', ' été', 'é', '—', '🙂', 'Γ', ' α', 'ж'], [true, false, true, true, true, true, true, false]],
    ['de', ['Straße', 'über', 'λόγος', 'λ'], [true, true, false, true]],
    ['el', ['λόγος', 'the'], [true, true]],
  ])('%s: letters of its scripts, signs, and single Greek letters', (language, texts, expected) => {
    const characters = characterSetOf([language]);
    expect(texts.map((text) => isInCharacterSet(bytesOf(text), characters))).toEqual(expected);
  });
});
