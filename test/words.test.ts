import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { sourceFiles } from './support/read-imports.js';

/** Private words, each with the word of the field that replaces it. */
const BANNED: readonly (readonly [found: RegExp, better: string])[] = [
  [/\bfore(?:tell|told|see|seen)\w*/i, 'estimate'],
  [/\b(?:go|goes|going|went) on\b/i, 'resume, or continue'],
  [/^\s*(?:\/\*\*|\*|\/\/).*\bbeside\b/i, 'next to'],
  [/\b(?:goOn|mayGoOn|goesOn|comesAgain)\b/, 'resume'],
  [/\b(?:keptIn|readKept|openKept\w*|keep(?:ing)?TokenWeights)\b|\bkept-(?:run|measures|segments)/, 'checkpoint'],
  [/\bnumbers? that (?:are|is) none\b/i, 'NaN'],
  [/\b(?:withoutFront|GraphFront)\b/, 'embeddingPrefix'],
  [/\b\w*[tT]wins?\b/, 'the branch without past, a duplicate, two runs'],
  [/\b(?:definedOf|tellWhole|sayingHow|seeInMetric|askThrough|thinOut)\b/, 'a word of PyTorch, ONNX Runtime or npm'],
  [/\bway back\b|\b[wW]ayBack\b/, 'backward pass'],
  [/\bby lot\b/i, 'at random'],
  [/\blook(?:s|ed|ing)? at\b|\b(?:a|one|no) look at\b/i, 'read, or measure'],
  [/\banew\b/, 'again'],
  [/\bstray\w*/i, 'invalid, or unknown'],
  [/\bhand(?:s|ed)? out\b|\bhandOut\w*/, 'return, or output'],
  [/\b(?:nobody|whoever)\b/i, 'the caller, or the passive'],
  [/\bat hand\b|\blaid bare\b|\b[lL]ets? go of\b/, 'available, explicit, release'],
  [
    /\b(?:came|comes|come) of\b|\bis due\b|\bway there\b|\bstands? ready\b|\bafresh\b/,
    'result, time, before, ready, again',
  ],
  [/\b(?:spared|holdOut|insisting|patiently|pricer)\b/, 'unpruned, lock, retry, cost'],
  [/\b[lL]evers?\b|\bLEVERS?\b|\bLeverName\b/, 'reduction'],
  [/\/\*\* (?:What|The same) /, 'the noun that the comment is about'],
  [/\b(?:const|let) (?:kept|isKept)\b/, 'remaining, saved, or checkpoint'],
  [/\bLOOK\b|\b\w*Look(?:Options|ing)?\b(?=\()/, 'collect statistics, or measure'],
];

const pages = ['docs', 'docs/contributing', 'docs/research'].flatMap((folder) =>
  readdirSync(folder)
    .filter((name) => name.endsWith('.md'))
    .map((name) => join(folder, name)),
);

it.each(BANNED)('sources and docs do not contain %s; better: %s', (found) => {
  // The bundled text is data.
  const sources = sourceFiles().filter((file) => !file.endsWith('/held-out-text.ts'));
  const lines = [...sources, ...pages, 'README.md'].flatMap((file) =>
    readFileSync(file, 'utf8')
      .split('\n')
      .flatMap((line, at) => (found.test(line) ? [`${file}:${at + 1} ${line.trim()}`] : [])),
  );
  expect(lines).toEqual([]);
});
