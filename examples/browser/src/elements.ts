/** An element of the page by its name. */
export function element<Kind extends HTMLElement = HTMLElement>(id: string): Kind {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`The page has no element "${id}".`);
  return found as Kind;
}

/** Makes an element; texts stay texts. */
export function make(tag: string, properties: Readonly<Record<string, string>> = {}, ...children: (Node | string)[]) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Fills a list of names and values. */
export function showFacts(list: HTMLElement, facts: Readonly<Record<string, string>>): void {
  const pairs = Object.entries(facts).map(([name, value]) =>
    make('div', {}, make('dt', {}, name), make('dd', {}, value)),
  );
  list.replaceChildren(...pairs);
}
