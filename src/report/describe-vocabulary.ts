import type { ResultVocabularyReport } from './report-schema.js';

const SOURCES = { source: 'the last quarter of your text', text: 'the bundled test text' } as const;

/** Cost of trimming the vocabulary alone, as a sentence; empty if it was not measured. */
export function describeTrimmingCost({ bitsPerByte }: Pick<ResultVocabularyReport, 'bitsPerByte'>): string {
  if (bitsPerByte === undefined) return '';
  const { before, after, from } = bitsPerByte;
  const change = 100 * (after / before - 1);
  const sign = change < 0 ? '-' : '+';
  return `The smaller vocabulary alone: ${before.toFixed(4)} -> ${after.toFixed(4)} bits per byte of ${SOURCES[from]} (${sign}${Math.abs(change).toFixed(1)} %).\n`;
}
