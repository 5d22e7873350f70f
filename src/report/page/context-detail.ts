import type { ContextReport } from '../report-schema.js';
import { numbers, words } from '../table-columns.js';
import { h, table } from './dom.js';

/** Marks what cannot be seen: spaces, line breaks, tabs. */
export function visible(token: string): string {
  return token.replace(/ /g, '␣').replace(/\n/g, '⏎').replace(/\t/g, '⇥').replace(/\r/g, '␍');
}

/** A context's telling tokens in a line. */
export function describedTokens(context: ContextReport | undefined): string {
  const tokens = context?.tokens ?? [];
  return tokens
    .slice(0, 5)
    .map(({ text }) => visible(text))
    .join('  ');
}

/** Characteristic tokens of a context, and examples in their text. @param name Distinguishes its table from others. */
export function contextDetail({ tokens, examples }: ContextReport, name: string): HTMLElement[] {
  if (tokens === undefined || examples === undefined) {
    return [h('p', { class: 'small' }, 'No text is quoted in this report.')];
  }
  const parts: HTMLElement[] = [];
  if (tokens.length > 0) {
    parts.push(
      h('h4', {}, 'Tokens that set it apart'),
      table(
        `Tokens that set ${name} apart`,
        [...words('token'), ...numbers('times', 'more often than elsewhere')],
        tokens.map(({ text, count, lift }) => [h('code', {}, visible(text)), String(count), `${lift} ×`]),
      ),
    );
  }
  if (examples.length > 0) {
    parts.push(
      h('h4', {}, 'In the text'),
      h(
        'ul',
        { class: 'examples' },
        ...examples.map(({ before, token, after }) =>
          h('li', {}, flat(before), h('mark', {}, visibleEnds(token)), flat(after)),
        ),
      ),
    );
  }
  return parts;
}

/** Line breaks as signs: an example remains a line. */
function flat(text: string): string {
  return text.replace(/\s*\n\s*/g, ' ⏎ ');
}

/** A marked token needs no signs but where it would be invisible. */
function visibleEnds(token: string): string {
  return token.trim() === '' ? visible(token) : flat(token);
}
