import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { PageName } from './experiments.js';
import { formatResults } from './format-results.js';
import type { Measurements } from './measurement.js';

const FOLDER = 'docs/results';
const PAGES: Readonly<Record<PageName, string>> = {
  results: 'docs/research/results.md',
  notebook: 'docs/research/measured-results.md',
};

const fileOf = (name: string): string => join(FOLDER, `${name}.json`);

/** What is known of a model. */
export function readMeasurements(name: string): Measurements {
  return existsSync(fileOf(name)) ? JSON.parse(readFileSync(fileOf(name), 'utf8')) : {};
}

/** Stores one experiment's measurements. The file is whole at any time, and keeps what others wrote into it meanwhile. */
export function storeMeasurement(name: string, id: string, entry: Measurements[string]): void {
  mkdirSync(FOLDER, { recursive: true });
  const unfinished = `${fileOf(name)}.${process.pid}`;
  writeFileSync(unfinished, `${JSON.stringify({ ...readMeasurements(name), [id]: entry }, null, 1)}\n`);
  renameSync(unfinished, fileOf(name));
}

/** Writes the pages with the tables of every model that was measured. */
export function writePages(): void {
  const names = readdirSync(FOLDER).filter((entry) => entry.endsWith('.json'));
  const models = names
    .map((entry) => entry.slice(0, -'.json'.length))
    .sort()
    .map((name) => [name, readMeasurements(name)] as const);
  for (const page of Object.keys(PAGES) as PageName[]) writeFileSync(PAGES[page], formatResults(page, models));
}
