import type { ModelDescription, PruneReport } from 'fang-prune';
import { make } from './elements.js';
import { formatCount, formatShare } from './format.js';

/** Draws a bar for each block: its attention and its feed-forward part, and what of them is left. */
export function drawBlocks(target: HTMLElement, { blocks }: ModelDescription, report?: PruneReport): void {
  const sizeOf = (block: ModelDescription['blocks'][number]) =>
    block.modules.reduce((sum, { parameters }) => sum + parameters, 0);
  const largest = Math.max(1, ...blocks.map(sizeOf));
  const rows = blocks.map((block) => {
    const parts = block.modules.flatMap(({ kind, parameters }) => {
      const found = report?.modules.find((module) => module.block === block.index && module.kind === kind);
      const kept = found === undefined ? 1 : found.unitsAfter / found.unitsBefore;
      const width = (share: number) => `width: ${((100 * parameters * share) / largest).toFixed(2)}%`;
      const bars = [make('span', { class: `bar ${kind}`, style: width(kept) })];
      if (kept < 1) bars.push(make('span', { class: 'bar removed', style: width(1 - kept) }));
      return [{ bars, said: `${kind} ${formatCount(parameters)}${kept < 1 ? `, ${formatShare(kept)} left` : ''}` }];
    });
    const said = `Block ${block.index}: ${parts.map((part) => part.said).join('; ')}`;
    return make(
      'div',
      { class: 'block', title: said },
      make('span', { class: 'block-name' }, String(block.index)),
      make('span', { class: 'bars', role: 'img', 'aria-label': said }, ...parts.flatMap(({ bars }) => bars)),
    );
  });
  target.replaceChildren(...rows);
}
