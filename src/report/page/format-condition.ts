/** `18`, `2.1 × 10⁵`: condition numbers matter by their size only. */
export function formatCondition(condition: number): string {
  if (condition < 1e4) return String(Number(condition.toPrecision(2)));
  const [digits = '', exponent = ''] = condition.toExponential(1).split('e+');
  return `${digits} × 10${Array.from(exponent, (digit) => SUPERSCRIPTS[Number(digit)]).join('')}`;
}

const SUPERSCRIPTS = '⁰¹²³⁴⁵⁶⁷⁸⁹';
