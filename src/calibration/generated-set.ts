import type { CalibrationProvenance, CalibrationSet, GeneratedProvenance } from './calibration-set.js';
import { sha256OfTokens } from './sha256.js';

/** Sampling settings of generated windows. */
export interface WindowDrawing
  extends Pick<GeneratedProvenance, 'seed' | 'startToken' | 'temperature' | 'documentLength'> {
  /** Tokens that every document begins with; `startToken` follows unless it is the last of them. Default none. */
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

/** Count and length of the equal documents that fill a window; the last document may be cut. */
export function splitWindow(
  windowLength: number,
  documentLength: number,
): { readonly count: number; readonly length: number } {
  const count = Math.ceil(windowLength / documentLength);
  return { count, length: Math.ceil(windowLength / count) };
}

/** Creates a calibration set of generated windows. @param windows At least one. */
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
 * Interleaves windows of a text and generated windows evenly, so that any part of the set contains both. The provenance is
 * that of the text, with that of the generated windows added.
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

/** Merges two lists, each in its order and evenly spread; ties go to the first list. */
function interleave<T>(first: readonly T[], second: readonly T[]): T[] {
  const placed = (list: readonly T[], shift: number) =>
    list.map((item, index) => ({ item, at: (index + 0.5) / list.length + shift }));
  return [...placed(first, 0), ...placed(second, 1e-9)].sort((a, b) => a.at - b.at).map(({ item }) => item);
}
