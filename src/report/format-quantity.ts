/** 2828736 -> `2.83 M`. */
export function formatCount(count: number): string {
  return scale(count, ['', 'K', 'M', 'G', 'T']);
}

/** 11566780 -> `11.6 MB` (decimal, as disks and model hubs count). */
export function formatBytes(bytes: number): string {
  return scale(bytes, ['B', 'KB', 'MB', 'GB', 'TB']);
}

/** A fraction that was counted or measured: 0.2998 -> `30.0 %`. */
export function formatPercent(fraction: number): string {
  return `${(fraction * 100).toFixed(1)} %`;
}

/** A requested fraction, or a label of an axis: 0.3 -> `30 %`, 0.125 -> `12.5 %`. */
export function formatExactPercent(fraction: number): string {
  return `${Number((fraction * 100).toPrecision(6))} %`;
}

/** 83000 -> `1 min 23 s`. */
export function formatDuration(ms: number): string {
  if (ms < 10_000) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  const minutes = Math.floor(seconds / 60);
  if (minutes === 0) return `${seconds} s`;
  return minutes < 60 ? `${minutes} min ${seconds % 60} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function scale(value: number, units: readonly string[]): string {
  // Rounding first: 999,999 is 1.00 M, not 1000 K.
  const rounded = Number(value.toPrecision(3));
  const power = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(rounded, 1)) / 3)));
  const text = power === 0 ? String(rounded) : formatThreeDigits(rounded / 1000 ** power);
  return `${text} ${units[power]}`.trim();
}

/** To three significant digits, zeros at the end included: 2.1 -> `2.10`. */
export function formatThreeDigits(value: number): string {
  return Math.abs(value) < 999.5 ? value.toPrecision(3) : String(Number(value.toPrecision(3)));
}
