import type { AnyRows, OptionRow } from './option.js';

/** An option with the path that it has in a request, such as `calibration.windowCount`. */
export interface NamedRow {
  readonly path: string;
  readonly row: OptionRow;
}

/** All options, each before its parts. */
export function listRows(rows: AnyRows, at?: string): readonly NamedRow[] {
  return Object.entries(rows).flatMap(([name, row]) => {
    const path = at === undefined ? name : `${at}.${name}`;
    return [{ path, row }, ...(row.parts === undefined ? [] : listRows(row.parts, path))];
  });
}
