import type { Column } from '../table-columns.js';

/** Children of an element; `undefined`, `false` and `''` show nothing. */
export type Child = Node | string | number | false | undefined | readonly Child[];

export type Attributes = Readonly<Record<string, string | number | boolean | undefined>>;

/**
 * Creates an HTML element. Texts become text nodes, so that quoted text is never parsed as markup.
 * @param attributes `true` sets an attribute without a value; `false` and `undefined` leave it out.
 */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    element.setAttribute(name, value === true ? '' : String(value));
  }
  append(element, children);
  return element;
}

function append(element: HTMLElement, children: readonly Child[]): void {
  for (const child of children) {
    if (child === undefined || child === false || child === '') continue;
    if (Array.isArray(child)) append(element, child);
    else element.append(child instanceof Node ? child : String(child));
  }
}

/** A section with its heading, reachable by its name. */
export function section(id: string, heading: string, ...children: readonly Child[]): HTMLElement {
  return h(
    'section',
    { id, 'aria-labelledby': `${id}-heading` },
    h('h2', { id: `${id}-heading` }, heading),
    ...children,
  );
}

/**
 * A table that scrolls horizontally on narrow screens; the first column has the names of the rows.
 * @param stacks On narrow screens, the name of each row is on a separate line instead of scrolling.
 */
export function table(
  caption: string,
  columns: readonly Column[],
  rows: readonly (readonly Child[])[],
  { stacks = false }: { readonly stacks?: boolean } = {},
): HTMLElement {
  const numeric = (at: number) => (columns[at]?.numeric ? 'number' : undefined);
  const head = h(
    'thead',
    {},
    h('tr', {}, ...columns.map(({ heading }, at) => h('th', { scope: 'col', class: numeric(at) }, heading))),
  );
  const body = h(
    'tbody',
    {},
    ...rows.map((cells) =>
      h(
        'tr',
        {},
        ...cells.map((cell, at) =>
          at === 0 ? h('th', { scope: 'row', class: numeric(at) }, cell) : h('td', { class: numeric(at) }, cell),
        ),
      ),
    ),
  );
  const whole = h('table', { class: stacks && 'stacks' }, h('caption', {}, caption), head, body);
  if (stacks) setRoles(whole);
  // Focusable, so that it can be scrolled by keyboard.
  return h('div', { class: 'scroller', role: 'region', 'aria-label': caption, tabindex: 0 }, whole);
}

/** Sets roles: browsers do not expose a table as such if a style sheet changes its layout. */
function setRoles(whole: HTMLTableElement): void {
  const roles = { thead: 'rowgroup', tbody: 'rowgroup', tr: 'row', td: 'cell' };
  whole.setAttribute('role', 'table');
  for (const [tag, role] of Object.entries(roles))
    for (const part of Array.from(whole.querySelectorAll(tag))) part.setAttribute('role', role);
  for (const part of Array.from(whole.querySelectorAll('th')))
    part.setAttribute('role', part.scope === 'row' ? 'rowheader' : 'columnheader');
}

/** Content that opens on demand. */
export function details(summary: string, ...children: readonly Child[]): HTMLElement {
  return h('details', {}, h('summary', {}, summary), ...children);
}

/** Label of an option: name, description, and a bar with its figure. @param fraction filled part of the bar */
export function meterLabel(
  name: string,
  about: string,
  { fraction, figure }: { fraction: number; figure: string },
): Node {
  const bar = h('span', { class: 'meter', 'aria-hidden': 'true' }, h('span', {}));
  (bar.firstChild as HTMLElement).style.width = `${100 * fraction}%`;
  return h(
    'span',
    { class: 'group' },
    h('strong', {}, name),
    h('span', { class: 'about' }, about),
    bar,
    h('span', { class: 'small' }, figure),
  );
}

/** A labelled set of options of which one is chosen, by mouse or arrow keys. */
export function choice<T>(
  { name, legend, className }: { readonly name: string; readonly legend: string; readonly className: string },
  options: readonly { readonly value: T; readonly label: Child; readonly checked: boolean }[],
  onChoose: (value: T) => void,
): HTMLElement {
  const items = options.map(({ value, label, checked }) => {
    const input = h('input', { type: 'radio', name, checked });
    input.addEventListener('change', () => onChoose(value));
    return h('label', {}, input, h('span', { class: 'chip' }, label));
  });
  return h('fieldset', { class: className }, h('legend', {}, legend), ...items);
}
