const units = new Intl.NumberFormat('en', { maximumSignificantDigits: 3, notation: 'compact' });
const megabytes = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 });
const percent = new Intl.NumberFormat('en', { style: 'percent', maximumFractionDigits: 1 });

export const formatCount = (count: number): string => units.format(count);
export const formatBytes = (bytes: number): string => `${megabytes.format(bytes / 1e6)} MB`;
export const formatShare = (share: number): string => percent.format(share);

export function formatDuration(ms: number): string {
  const seconds = Math.round(ms / 1000);
  return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

/** What each stage does, for a reader. */
const STAGES: Readonly<Record<string, string>> = {
  download: 'Downloading',
  load: 'Reading the model',
  analyse: 'Understanding its graph',
  calibrate: 'Choosing texts to watch it on',
  measure: 'Watching the dense model',
  gradients: 'Watching the dense model',
  prune: 'Taking neurons and heads out',
  save: 'Writing the smaller model',
  certify: 'Checking what was written',
};

export const formatStage = (stage: string, detail = ''): string =>
  [STAGES[stage] ?? `${stage[0]?.toUpperCase()}${stage.slice(1)}`, detail].filter(Boolean).join(': ');
