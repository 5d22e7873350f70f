import { OptionError } from '../errors.js';

/** Characters of a language: its scripts by Unicode name, and its Latin letters beyond ASCII. */
export interface Language {
  readonly name: string;
  readonly scripts: readonly string[];
  /** Lower-case Latin letters beyond ASCII; upper-case ones are derived. Absent: not written in Latin letters. */
  readonly letters?: string;
}

const latin = (name: string, letters = ''): Language => ({ name, scripts: ['Latin'], letters });
const written = (name: string, ...scripts: readonly string[]): Language => ({
  name,
  scripts: scripts.length > 0 ? scripts : [name],
});

/** Languages by ISO 639 code. ASCII, punctuation, symbols and emoji belong to all of them. */
const LANGUAGES = {
  code: { name: 'program code: ASCII alone', scripts: [] },
  en: latin('English'),
  af: latin('Afrikaans', 'áäéèêëíîïóôöúûü'),
  am: written('Amharic', 'Ethiopic'),
  ar: written('Arabic'),
  az: latin('Azerbaijani', 'əçğıiöşü'),
  be: written('Belarusian', 'Cyrillic'),
  bg: written('Bulgarian', 'Cyrillic'),
  bn: written('Bengali'),
  bs: latin('Bosnian', 'čćđšž'),
  ca: latin('Catalan', 'àçéèíïóòúü·'),
  cs: latin('Czech', 'áčďéěíňóřšťúůýž'),
  cy: latin('Welsh', 'áâäéêëíîïóôöúûüŵŷÿẁẃẅỳý'),
  da: latin('Danish', 'æøåéáü'),
  de: latin('German', 'äöüßẞé'),
  el: written('Greek'),
  eo: latin('Esperanto', 'ĉĝĥĵŝŭ'),
  es: latin('Spanish', 'áéíñóúü¡¿ªº'),
  et: latin('Estonian', 'äõöüšž'),
  eu: latin('Basque', 'ñçü'),
  fa: written('Persian', 'Arabic'),
  fi: latin('Finnish', 'äöåšž'),
  fr: latin('French', 'àâæçéèêëîïôœùûüÿ«»'),
  ga: latin('Irish', 'áéíóú'),
  gl: latin('Galician', 'áéíñóúüï'),
  gu: written('Gujarati'),
  he: written('Hebrew'),
  hi: written('Hindi', 'Devanagari'),
  hr: latin('Croatian', 'čćđšž'),
  hu: latin('Hungarian', 'áéíóöőúüű'),
  hy: written('Armenian'),
  id: latin('Indonesian', 'é'),
  is: latin('Icelandic', 'áðéíóúýþæö'),
  it: latin('Italian', 'àèéìíîòóùú'),
  ja: written('Japanese', 'Han', 'Hiragana', 'Katakana'),
  ka: written('Georgian'),
  kk: written('Kazakh', 'Cyrillic'),
  km: written('Khmer'),
  kn: written('Kannada'),
  ko: written('Korean', 'Hangul'),
  la: latin('Latin', 'āēīōūȳăĕĭŏŭæœ'),
  lo: written('Lao'),
  lt: latin('Lithuanian', 'ąčęėįšųūž'),
  lv: latin('Latvian', 'āčēģīķļņšūž'),
  mk: written('Macedonian', 'Cyrillic'),
  ml: written('Malayalam'),
  mn: written('Mongolian', 'Cyrillic', 'Mongolian'),
  mr: written('Marathi', 'Devanagari'),
  ms: latin('Malay', 'é'),
  mt: latin('Maltese', 'àċèġħìòùż'),
  my: written('Burmese', 'Myanmar'),
  ne: written('Nepali', 'Devanagari'),
  nl: latin('Dutch', 'áäéèêëíïóöúüĳ'),
  no: latin('Norwegian', 'æøåéèêóòô'),
  or: written('Odia', 'Oriya'),
  pa: written('Punjabi', 'Gurmukhi'),
  pl: latin('Polish', 'ąćęłńóśźż'),
  ps: written('Pashto', 'Arabic'),
  pt: latin('Portuguese', 'áâãàçéêíóôõúü'),
  ro: latin('Romanian', 'ăâîșțşţ'),
  ru: written('Russian', 'Cyrillic'),
  si: written('Sinhala'),
  sk: latin('Slovak', 'áäčďéíĺľňóôŕšťúýž'),
  sl: latin('Slovenian', 'čšž'),
  sq: latin('Albanian', 'çë'),
  sr: { name: 'Serbian', scripts: ['Cyrillic', 'Latin'], letters: 'čćđšž' },
  sv: latin('Swedish', 'åäöéà'),
  sw: latin('Swahili'),
  ta: written('Tamil'),
  te: written('Telugu'),
  th: written('Thai'),
  tl: latin('Filipino', 'ñ'),
  tr: latin('Turkish', 'çğıiöşüâîû'),
  uk: written('Ukrainian', 'Cyrillic'),
  ur: written('Urdu', 'Arabic'),
  vi: latin('Vietnamese', 'àáảãạăằắẳẵặâầấẩẫậđèéẻẽẹêềếểễệìíỉĩịòóỏõọôồốổỗộơờớởỡợùúủũụưừứửữựỳýỷỹỵ'),
  yi: written('Yiddish', 'Hebrew'),
  zh: written('Chinese', 'Han', 'Bopomofo'),
} as const satisfies Readonly<Record<string, Language>>;

/** Characters of some languages. */
export interface CharacterSet {
  /** Whether a character may be part of a word. */
  inWords(codePoint: number): boolean;
  /**
   * Whether a character may be a token alone: all of the scripts, so that names and loanwords can be encoded by letters, and
   * Greek letters, which formulas of every language use.
   */
  alone(codePoint: number): boolean;
}

/** Symbols of every language. East Asian symbols and wide forms belong only to East Asian scripts. */
const SIGNS = /^[\p{Script_Extensions=Common}\p{Script_Extensions=Inherited}]$/u;
const EAST_ASIAN_SIGNS = /^[\u3000-\u33ff\ufe10-\ufe4f\uff00-\uffef\u{1f200}-\u{1f2ff}]$/u;
const LETTERS_OF_FORMULAS = /^[\u0391-\u03a9\u03b1-\u03c9\u03d1\u03d5\u03f5]$/;
const EAST_ASIAN = ['Han', 'Hiragana', 'Katakana', 'Hangul', 'Bopomofo'];

/**
 * Characters of languages.
 * @param names codes of `LANGUAGES`, or names of Unicode scripts, such as `Cyrillic`, with all their letters
 * @throws OptionError for an unknown name
 */
export function characterSetOf(names: readonly string[]): CharacterSet {
  const languages = names.map(findLanguage);
  const scripts = [...new Set(languages.flatMap((language) => language.scripts))];
  const letters = new Set<number>();
  const entireScripts = new Set<string>();
  for (const { scripts, letters: own } of languages) {
    for (const script of scripts) if (script !== 'Latin' || own === undefined) entireScripts.add(script);
    for (const letter of `${own ?? ''}${(own ?? '').toLocaleUpperCase('und')}`) letters.add(letter.codePointAt(0)!);
  }
  const isEastAsian = EAST_ASIAN.some((script) => scripts.includes(script));
  const isSign = (character: string) => SIGNS.test(character) && (isEastAsian || !EAST_ASIAN_SIGNS.test(character));
  const inEntireScripts = matcherOf([...entireScripts]);
  const inScripts = matcherOf(scripts);
  const isKnown = (codePoint: number, test: (character: string) => boolean): boolean => {
    if (codePoint < 0x80 || letters.has(codePoint)) return true;
    const character = String.fromCodePoint(codePoint);
    return isSign(character) || test(character);
  };
  return {
    inWords: memoize((codePoint) => isKnown(codePoint, inEntireScripts)),
    alone: memoize((codePoint) =>
      isKnown(codePoint, (character) => LETTERS_OF_FORMULAS.test(character) || inScripts(character)),
    ),
  };
}

function findLanguage(name: string): Language {
  if (Object.hasOwn(LANGUAGES, name)) return LANGUAGES[name as keyof typeof LANGUAGES];
  if (/^[A-Z][A-Za-z_]+$/.test(name) && isScript(name)) return { name, scripts: [name] };
  throw new OptionError(
    `keepLanguages contains ${JSON.stringify(name)}; expected languages (${Object.keys(LANGUAGES).join(', ')}) or Unicode scripts, such as Cyrillic`,
    { option: 'keepLanguages' },
  );
}

function isScript(name: string): boolean {
  try {
    new RegExp(`\\p{Script=${name}}`, 'u');
    return true;
  } catch {
    return false;
  }
}

function matcherOf(scripts: readonly string[]): (character: string) => boolean {
  if (scripts.length === 0) return () => false;
  const pattern = new RegExp(`^[${scripts.map((script) => `\\p{Script_Extensions=${script}}`).join('')}]$`, 'u');
  return (character) => pattern.test(character);
}

/** Caches results, since tokens repeat characters. */
function memoize(test: (codePoint: number) => boolean): (codePoint: number) => boolean {
  const known = new Map<number, boolean>();
  return (codePoint) => {
    const found = known.get(codePoint) ?? test(codePoint);
    known.set(codePoint, found);
    return found;
  };
}
