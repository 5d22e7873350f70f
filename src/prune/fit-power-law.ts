/** An estimate and its measured value. */
export interface CalibrationPoint {
  readonly estimate: number;
  readonly measured: number;
}

/** Exponents outside this range are noise. */
const [MIN_EXPONENT, MAX_EXPONENT] = [0.5, 3];

/** Ratio of the largest to the smallest estimate that determines the exponent. */
const MIN_RATIO = 1.2;

/** Below this a divergence is noise, in nats per token. */
const MIN_DIVERGENCE = 1e-6;

/**
 * Fits `measured = scale estimate^exponent` by least squares of the logarithms, since costs of single changes do not add up.
 * One point gives only the scale; without points, estimates are returned unchanged.
 */
export function fitPowerLaw(points: readonly CalibrationPoint[]): (estimate: number) => number {
  const logs = points.flatMap(({ estimate, measured }) =>
    estimate > 0 ? [{ x: Math.log(estimate), y: Math.log(Math.max(measured, MIN_DIVERGENCE)) }] : [],
  );
  if (logs.length === 0) return (estimate) => estimate;
  const mean = (pick: (log: { x: number; y: number }) => number) =>
    logs.reduce((sum, log) => sum + pick(log), 0) / logs.length;
  const [x, y] = [mean((log) => log.x), mean((log) => log.y)];
  const spread = Math.max(...logs.map((log) => log.x)) - Math.min(...logs.map((log) => log.x));
  const slope =
    spread < Math.log(MIN_RATIO) ? 1 : mean((log) => (log.x - x) * (log.y - y)) / mean((log) => (log.x - x) ** 2);
  const exponent = Math.min(MAX_EXPONENT, Math.max(MIN_EXPONENT, slope));
  return (estimate) => (estimate > 0 ? Math.exp(y + exponent * (Math.log(estimate) - x)) : 0);
}
