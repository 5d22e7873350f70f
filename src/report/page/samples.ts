import type { PruneReport } from '../report-schema.js';
import { h, section } from './dom.js';

/** Section with the text that both models generate after the same prompts. */
export function samplesSection({ samples = [] }: PruneReport): HTMLElement | undefined {
  if (samples.length === 0) return undefined;
  return section(
    'samples',
    'Generated text',
    h('p', {}, 'Greedy continuations of the same prompts by both models. A few lines are not a measurement.'),
    ...samples.map(({ prompt, dense, pruned }) =>
      h(
        'div',
        { class: 'sample' },
        h('p', { class: 'prompt' }, prompt),
        h(
          'div',
          { class: 'continuations' },
          ...[['dense', dense] as const, ['pruned', pruned] as const].map(([name, text]) =>
            h(
              'div',
              {},
              h('h3', {}, h('span', { class: `key ${name}`, 'aria-hidden': 'true' }), name),
              h('p', {}, text),
            ),
          ),
        ),
      ),
    ),
  );
}
