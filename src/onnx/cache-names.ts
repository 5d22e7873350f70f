import type { ModelInput } from './model-inputs.js';

/** Patterns by which exporters derive a cache output's name from its input's. */
const PRESENT_NAMES: readonly ((past: string) => string)[] = [
  (past) => past.replace('past_key_values', 'present'),
  (past) => past.replace('past', 'present'),
];

/** Suffix of outputs with only the tokens that a run adds to a cache. */
export const ADDED = '/added';

/** Suffix of inputs with the latest tokens of a cache, which follow those of the cache input. */
const RECENT = '/recent';

/** The input with the latest tokens of a cache, in a graph that outputs only added tokens. */
export const recentOf = (past: string): string => past + RECENT;

/** Whether an input is a cache, and not the latest tokens of one. */
export const isFullCache = ({ role, name }: ModelInput): boolean => role === 'past' && !name.endsWith(RECENT);

/** An output with the next value of a cache input. */
export interface PresentOutput {
  readonly name: string;
  /** Whether it contains only the tokens of this run. */
  readonly isAdded: boolean;
}

/** The output with the next value of a cache input; undefined if there is none. */
export function findPresent(past: string, outputs: readonly { readonly name: string }[]): PresentOutput | undefined {
  const candidates = PRESENT_NAMES.flatMap((rename) =>
    [false, true].map((isAdded) => ({ name: rename(past) + (isAdded ? ADDED : ''), isAdded })),
  );
  return candidates.find(({ name }) => outputs.some((output) => output.name === name));
}
