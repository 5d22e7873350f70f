import type { Choice } from 'fang-prune';
import { make } from './elements.js';
import { formatBytes } from './format.js';

const COLUMNS = ['Model', 'Size', 'Bits per byte', 'Tokens a second', 'First token'];

/** Fills an element with a table of the sizes that were tried; the one to take stands out. */
export function drawSizes(target: HTMLElement, { models, recommended, promptLength }: Choice): void {
  const rows = models.map(({ name, bytes, bitsPerByte, tokensPerSecond, firstTokenMs }) => {
    const isTaken = name === recommended;
    const cells = [
      isTaken ? `${name}, take this` : name,
      formatBytes(bytes),
      bitsPerByte.toFixed(4),
      tokensPerSecond.toFixed(1),
      `${firstTokenMs.toFixed(0)} ms`,
    ];
    return make('tr', isTaken ? { class: 'taken' } : {}, ...cells.map((text) => make('td', {}, text)));
  });
  const head = make('tr', {}, ...COLUMNS.map((text) => make('th', { scope: 'col' }, text)));
  const said = `Measured on your text; the first token comes after a prompt of ${promptLength} tokens`;
  target.replaceChildren(
    make('table', {}, make('caption', {}, said), make('thead', {}, head), make('tbody', {}, ...rows)),
  );
}
