/** 2828736 -> `2.83 M`. */
export function formatCount(count: number): string {
  return scale(count, 1000, ['', 'K', 'M', 'G', 'T']);
}

/** 11566780 -> `11.6 MB` (decimal, as disks and model hubs count). */
export function formatBytes(bytes: number): string {
  return scale(bytes, 1000, ['B', 'KB', 'MB', 'GB', 'TB']);
}

/** 0.2998 -> `29.98 %`. */
export function formatPercent(fraction: number): string {
  return `${Number((fraction * 100).toFixed(2))} %`;
}

/** 83000 -> `1 min 23 s`. */
export function formatDuration(ms: number): string {
  if (ms < 10_000) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  const minutes = Math.floor(seconds / 60);
  if (minutes === 0) return `${seconds} s`;
  return minutes < 60 ? `${minutes} min ${seconds % 60} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function scale(value: number, base: number, units: readonly string[]): string {
  const power = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log(Math.max(value, 1)) / Math.log(base))));
  return `${Number((value / base ** power).toPrecision(3))} ${units[power]}`.trim();
}
