/** What a value of a JSON file must be. @returns what is wrong, after the place's name; undefined for nothing. */
export type Shape = (value: unknown, place: string) => string | undefined;

const one =
  (expected: string, isRight: (value: unknown) => boolean): Shape =>
  (value, place) =>
    isRight(value) ? undefined : `${place} is ${nameOf(value)}, expected ${expected}`;

export const text = one('a text', (value) => typeof value === 'string');
export const flag = one('true or false', (value) => typeof value === 'boolean');
export const number = one('a number', Number.isFinite);
/** JSON makes null of NaN. */
export const numberOrNull = one('a number', (value) => value === null || Number.isFinite(value));
export const list = one('a list', Array.isArray);
export const object = one('an object', (value) => typeof value === 'object' && value !== null && !Array.isArray(value));

const MOST_UNITS = 2 ** 31;

/** Positions of units, each once and ascending. */
export const positions = one(
  'a list of ascending positions',
  (value) =>
    Array.isArray(value) &&
    value.every((at, index) => Number.isInteger(at) && at > (index === 0 ? -1 : value[index - 1]) && at < MOST_UNITS),
);

export const oneOf = (...allowed: readonly string[]): Shape =>
  one(`one of ${allowed.join(', ')}`, (value) => allowed.includes(value as string));

export const optional =
  (shape: Shape): Shape =>
  (value, place) =>
    value === undefined ? undefined : shape(value, place);

export const listOf =
  (item: Shape): Shape =>
  (value, place) =>
    list(value, place) ?? firstOf((value as unknown[]).map((found, at) => () => item(found, `${place}[${at}]`)));

/** An object with these fields, and any others. */
export const withFields =
  (shapes: Readonly<Record<string, Shape>>): Shape =>
  (value, place) =>
    object(value, place) ??
    firstOf(
      Object.entries(shapes).map(
        ([name, shape]) =>
          () =>
            shape(
              Object.hasOwn(value as object, name) ? (value as Record<string, unknown>)[name] : undefined,
              place === '' ? name : `${place}.${name}`,
            ),
      ),
    );

function firstOf(checks: readonly (() => string | undefined)[]): string | undefined {
  for (const check of checks) {
    const wrong = check();
    if (wrong !== undefined) return wrong;
  }
  return undefined;
}

function nameOf(value: unknown): string {
  if (value === undefined) return 'missing';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object' && value !== null) return 'an object';
  return JSON.stringify(value).slice(0, 40);
}
