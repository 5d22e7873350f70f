/** Time of an FFN's two matrix products at one width. */
export interface WidthTiming {
  readonly width: number;
  /** Median over the repetitions, for the tokens of a prompt, and for one token. */
  readonly prefillMs: number;
  readonly decodeMs: number;
}

/** A width multiple that this machine computes faster. */
export interface WidthAdvice {
  readonly multiple: number;
  /** The current width, and the nearest multiple below it. */
  readonly width: number;
  readonly rounded: number;
  /** Time per neuron at `rounded` divided by that at `width`; below 1 is faster. */
  readonly prefillRatio: number;
  readonly decodeRatio: number;
}

/** Multiples that match vector widths and tiles of matrix kernels. */
const WIDTH_MULTIPLES = [8, 16, 32, 64, 128] as const;

/** Least saving per neuron (mean of prefill and decoding) for advice, since rounding removes more neurons. */
const MIN_SAVING = 0.05;

/** Widths to time around one: itself, and the nearest multiples below it. Descending. */
export function neighbouringWidths(width: number): number[] {
  const rounded = WIDTH_MULTIPLES.map((multiple) => multiple * Math.floor(width / multiple)).filter((near) => near > 0);
  return [...new Set([width, ...rounded])].sort((a, b) => b - a);
}

/**
 * The multiple that saves most time per neuron, in prefill and decoding together, if one saves enough.
 * @param timings Of `neighbouringWidths(width)`.
 */
export function adviseWidth(width: number, timings: readonly WidthTiming[]): WidthAdvice | undefined {
  const own = timings.find((timing) => timing.width === width);
  if (own === undefined) return undefined;
  const candidates = WIDTH_MULTIPLES.flatMap((multiple) => {
    const rounded = multiple * Math.floor(width / multiple);
    const near = timings.find((timing) => timing.width === rounded);
    if (near === undefined || rounded === width) return [];
    const perNeuron = (ms: number, ofOwn: number) => ms / rounded / (ofOwn / width);
    const prefillRatio = perNeuron(near.prefillMs, own.prefillMs);
    const decodeRatio = perNeuron(near.decodeMs, own.decodeMs);
    return [{ multiple, width, rounded, prefillRatio, decodeRatio }];
  });
  const gainOf = ({ prefillRatio, decodeRatio }: WidthAdvice) => 1 - (prefillRatio + decodeRatio) / 2;
  const best = candidates.reduce<WidthAdvice | undefined>(
    (most, candidate) => (most === undefined || gainOf(candidate) > gainOf(most) ? candidate : most),
    undefined,
  );
  return best !== undefined && gainOf(best) > MIN_SAVING ? best : undefined;
}
