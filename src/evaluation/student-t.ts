/**
 * P(|T| <= t) of Student's t distribution.
 *
 * @param t At least 0; infinite gives 1.
 * @param degrees Degrees of freedom, an integer of at least 1.
 * @see Abramowitz and Stegun, 26.7.3 and 26.7.4
 */
export function studentProbability(t: number, degrees: number): number {
  const angle = Math.atan(t / Math.sqrt(degrees));
  const cosine = Math.cos(angle);
  const isOdd = degrees % 2 === 1;
  let term = isOdd ? cosine : 1;
  let sum = degrees === 1 ? 0 : term;
  for (let power = isOdd ? 3 : 2; power <= degrees - 2; power += 2) {
    term *= (cosine ** 2 * (power - 1)) / power;
    sum += term;
  }
  const within = Math.sin(angle) * sum;
  return Math.min(1, isOdd ? (2 / Math.PI) * (angle + within) : within);
}

/**
 * The t with `studentProbability(t, degrees) === confidence`.
 *
 * @param confidence In (0, 1).
 */
export function studentPoint(confidence: number, degrees: number): number {
  let [low, high] = [0, 1];
  while (studentProbability(high, degrees) < confidence) [low, high] = [high, 2 * high];
  for (let middle = (low + high) / 2; middle > low && middle < high; middle = (low + high) / 2) {
    if (studentProbability(middle, degrees) < confidence) low = middle;
    else high = middle;
  }
  return high;
}
