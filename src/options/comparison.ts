import { above, integer } from './kinds.js';
import { type Families, row } from './option.js';
import { seedOf } from './run.js';

/** Options of comparisons. */
export const COMPARISON = {
  confidence: row('--confidence <fraction>', 'of the interval, such as 0.95 or 95%', {
    kind: {
      ...above(0),
      accepts: (value): value is number => typeof value === 'number' && value > 0 && value < 1,
      expected: 'a number between 0 and 1',
      reads: 'fraction',
    },
    default: 0.95,
  }),
  resampleCount: row('--resamples <count>', 'bootstrap draws', { kind: integer(100), default: 10000 }),
  seed: seedOf('seed of the bootstrap'),
} as const satisfies Families[string];
