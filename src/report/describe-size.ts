import type { SizeCandidateReport } from './report-schema.js';

/** `20 q8, 10 q4`. */
export const describeMaps = ({ maps }: Pick<SizeCandidateReport, 'maps'>): string =>
  Object.entries(maps)
    .map(([dtype, count]) => `${count} ${dtype}`)
    .join(', ');

/** Models that no smaller one betters, the largest first. */
export function frontierOf<Point extends { readonly bytes: number; readonly total: number }>(
  points: readonly Point[],
): Point[] {
  return points
    .filter(({ bytes, total }) => !points.some((other) => other.bytes < bytes && other.total <= total))
    .sort((a, b) => b.bytes - a.bytes);
}
