import { isRecord } from '../parse-json.js';

/** Texts that a chat template may write: the text outside its tags, and the strings inside them. */
export function textsOfTemplate(template: string): readonly string[] {
  const texts: string[] = [];
  const tags = /\{[{%#]-?([\s\S]*?)-?[}%#]\}/g;
  let end = 0;
  for (const tag of template.matchAll(tags)) {
    texts.push(template.slice(end, tag.index));
    for (const [, quoted = ''] of (tag[1] ?? '').matchAll(/'((?:[^'\\]|\\.)*)'/g)) texts.push(readEscapes(quoted));
    for (const [, quoted = ''] of (tag[1] ?? '').matchAll(/"((?:[^"\\]|\\.)*)"/g)) texts.push(readEscapes(quoted));
    end = tag.index + tag[0].length;
  }
  texts.push(template.slice(end));
  return texts.filter((text) => text !== '');
}

/** Chat templates of a tokenizer_config.json: one, or a list by name. */
export function templatesOf(tokenizerConfig: unknown): readonly string[] {
  const { chat_template: given } = Object(tokenizerConfig) as { readonly chat_template?: unknown };
  if (typeof given === 'string') return [given];
  const named = Array.isArray(given)
    ? given.map((entry) => Object(entry).template)
    : Object.values(isRecord(given) ? given : {});
  return named.filter((template): template is string => typeof template === 'string');
}

/** Roles, which templates insert by a variable. */
export const ROLES: readonly string[] = ['system', 'user', 'assistant', 'model', 'tool', 'developer', 'function'];

const ESCAPES: Readonly<Record<string, string>> = { n: '\n', t: '\t', r: '\r' };

const readEscapes = (text: string): string =>
  text.replace(/\\(.)/gs, (_, escaped: string) => ESCAPES[escaped] ?? escaped);
