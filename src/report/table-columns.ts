/** A column of a table: its heading, and whether its cells are numbers (aligned right). */
export interface Column {
  readonly heading: string;
  readonly numeric?: boolean;
}

export const words = (...headings: readonly string[]): readonly Column[] => headings.map((heading) => ({ heading }));

export const numbers = (...headings: readonly string[]): readonly Column[] =>
  headings.map((heading) => ({ heading, numeric: true }));
