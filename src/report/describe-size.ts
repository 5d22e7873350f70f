import type { SizeCandidateReport } from './report-schema.js';

/** `20 q8, 10 q4`. */
export const describeDtypeCounts = ({ maps }: Pick<SizeCandidateReport, 'maps'>): string =>
  Object.entries(maps)
    .map(([dtype, count]) => `${count} ${dtype}`)
    .join(', ');
