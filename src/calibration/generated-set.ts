import type { CalibrationProvenance, CalibrationSet, GeneratedProvenance } from './calibration-set.js';
import { sha256OfTokens } from './sha256.js';

/** Settings that windows were drawn with. */
export interface WindowDrawing
  extends Pick<GeneratedProvenance, 'seed' | 'startToken' | 'temperature' | 'documentLength'> {
  /** Tokens that every document begins with, before its start token where that is not the last of them. Default none. */
  readonly leadingTokens?: readonly number[] | undefined;
}

/** Tokens that every document begins with. */
export function startOfDocuments({
  leadingTokens = [],
  startToken,
}: Pick<WindowDrawing, 'leadingTokens' | 'startToken'>): readonly number[] {
  return leadingTokens.at(-1) === startToken ? leadingTokens : [...leadingTokens, startToken];
}

/** A calibration set of generated windows only. */
export interface GeneratedSet extends CalibrationSet {
  readonly provenance: CalibrationProvenance & { readonly generated: GeneratedProvenance };
}

/** The documents of equal length that fill a window, the last one cut where they would reach beyond it. */
export function splitWindow(
  windowLength: number,
  documentLength: number,
): { readonly count: number; readonly length: number } {
  const count = Math.ceil(windowLength / documentLength);
  return { count, length: Math.ceil(windowLength / count) };
}

/** Describes windows that a model wrote, at least one. */
export async function describeGenerated(
  windows: readonly Int32Array[],
  { leadingTokens = [], ...drawing }: WindowDrawing,
): Promise<GeneratedSet> {
  const { seed, startToken, temperature, documentLength } = drawing;
  const windowCount = windows.length;
  const windowLength = windows[0]?.length ?? 0;
  const tokensSha256 = await sha256OfTokens(windows);
  const provenance = {
    kind: 'generated',
    tokensSha256,
    documentCount: windowCount * splitWindow(windowLength, documentLength).count,
    tokenCount: windowCount * windowLength,
    windowCount,
    requestedWindowCount: windowCount,
    windowLength,
    selection: 'first',
    ...(leadingTokens.length > 0 && { leadingTokens }),
    generated: { windowCount, share: 1, seed, startToken, temperature, documentLength, tokensSha256 },
  } as const;
  return { windows, windowLength, provenance };
}

/**
 * Puts windows of a text and windows that a model wrote into one set, evenly among each other, so that every stretch of it
 * holds both. The provenance remains the text's, with the model's part added to it.
 *
 * @param own,generated windows of one length
 */
export async function mixCalibrationSets(own: CalibrationSet, generated: GeneratedSet): Promise<CalibrationSet> {
  const windows = interleave(own.windows, generated.windows);
  const drawn = generated.provenance;
  return {
    windows,
    windowLength: own.windowLength,
    provenance: {
      ...own.provenance,
      tokensSha256: await sha256OfTokens(windows),
      windowCount: windows.length,
      requestedWindowCount: own.provenance.requestedWindowCount + drawn.requestedWindowCount,
      generated: { ...drawn.generated, share: drawn.windowCount / windows.length },
    },
  };
}

/** Both lists in their order, each as evenly spread as it can be; of equals the first list's comes first. */
function interleave<T>(first: readonly T[], second: readonly T[]): T[] {
  const placed = (list: readonly T[], shift: number) =>
    list.map((item, index) => ({ item, at: (index + 0.5) / list.length + shift }));
  return [...placed(first, 0), ...placed(second, 1e-9)].sort((a, b) => a.at - b.at).map(({ item }) => item);
}
