import { formatBytes } from './format-quantity.js';
import type { SizeCandidateReport, SizeReport } from './report-schema.js';

/** `20 q8, 10 q4`. */
export const describeDtypeCounts = ({ maps }: Pick<SizeCandidateReport, 'maps'>): string =>
  Object.entries(maps)
    .map(([dtype, count]) => `${count} ${dtype}`)
    .join(', ');

/** `9.00 MB`, or `9.00 MB together with the KV cache of 2048 tokens`. */
export const describeTarget = ({ target, contextLength }: Pick<SizeReport, 'target' | 'contextLength'>): string =>
  `${formatBytes(target)}${contextLength === undefined ? '' : ` together with the KV cache of ${contextLength} tokens`}`;
