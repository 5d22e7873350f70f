/** Units of a row in one hexadecimal digit. */
const PER_DIGIT = 4;

/**
 * Writes the remaining units of a row as a bit string in hexadecimal digits: unit 0 is the highest bit of the first digit, 1
 * is a remaining unit.
 * @param unitCount of the row
 */
export function writeUnitBits(units: Iterable<number>, unitCount: number): string {
  const digits = new Uint8Array(digitCount(unitCount));
  for (const unit of units) digits[Math.floor(unit / PER_DIGIT)]! |= bitOf(unit);
  return [...digits].map((digit) => digit.toString(16)).join('');
}

/** Reads text of `writeUnitBits` as ascending units; undefined for anything else. */
export function readUnitBits(text: unknown, unitCount: number): number[] | undefined {
  if (typeof text !== 'string' || text.length !== digitCount(unitCount) || !/^[0-9a-f]*$/.test(text)) return undefined;
  const digits = [...text].map((digit) => Number.parseInt(digit, 16));
  const units = Array.from({ length: digits.length * PER_DIGIT }, (_, unit) => unit).filter(
    (unit) => (digits[Math.floor(unit / PER_DIGIT)]! & bitOf(unit)) !== 0,
  );
  return units.every((unit) => unit < unitCount) ? units : undefined;
}

const digitCount = (unitCount: number): number => Math.ceil(unitCount / PER_DIGIT);

const bitOf = (unit: number): number => 1 << (PER_DIGIT - 1 - (unit % PER_DIGIT));
