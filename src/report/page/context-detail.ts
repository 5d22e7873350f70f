import type { ContextReport } from '../report-schema.js';
import { numbers, words } from '../table-columns.js';
import { h, table } from './dom.js';

/** Replaces spaces, line breaks and tabs by visible signs. */
export function visible(token: string): string {
  return token.replace(/ /g, '␣').replace(/\n/g, '⏎').replace(/\t/g, '⇥').replace(/\r/g, '␍');
}

/** Characteristic tokens of a context, in a line. */
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
      h('h4', {}, 'Characteristic tokens'),
      table(
        `Characteristic tokens of ${name}`,
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
          h('li', {}, inOneLine(before), h('mark', {}, visibleIfBlank(token)), inOneLine(after)),
        ),
      ),
    );
  }
  return parts;
}

/** Replaces line breaks by signs, so that an example is one line. */
function inOneLine(text: string): string {
  return text.replace(/\s*\n\s*/g, ' ⏎ ');
}

/** Replaces the spaces of a marked token only if it has nothing else. */
function visibleIfBlank(token: string): string {
  return token.trim() === '' ? visible(token) : inOneLine(token);
}
