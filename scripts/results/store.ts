import { writeFileSync } from 'node:fs';
import { storedEntries } from '../stored-entries.js';
import type { PageName } from './experiments.js';
import { formatResults } from './format-results.js';
import type { Measurements } from './measurement.js';

const PAGES: Readonly<Record<PageName, string>> = {
  results: 'docs/research/results.md',
  notebook: 'docs/research/measured-results.md',
};

/** Measurements of each model, by experiment. */
export const results = storedEntries<Measurements[string]>('docs/results');

/** Writes the pages with the tables of every model that was measured. */
export function writePages(): void {
  const models = results.readAll();
  for (const page of Object.keys(PAGES) as PageName[]) writeFileSync(PAGES[page], formatResults(page, models));
}
