/** Typed arrays allowed in a part; stored by index. */
const VIEWS = [
  Uint8Array,
  Int8Array,
  Uint8ClampedArray,
  Uint16Array,
  Int16Array,
  Uint32Array,
  Int32Array,
  Float32Array,
  Float64Array,
  BigInt64Array,
  BigUint64Array,
] as const;

type View = InstanceType<(typeof VIEWS)[number]>;

/** A part as bytes: JSON of its plain data, and the memory of its typed arrays, without copying. */
export interface PartBytes {
  readonly plain: Uint8Array;
  readonly views: readonly Uint8Array[];
}

/** Key of objects that encode values unknown to JSON; an object with this key itself is written as entries. */
const TAG = '$';

/** Replacement for a value that JSON cannot express. */
type Tagged =
  | { readonly [TAG]: 'undefined' }
  | { readonly [TAG]: 'number' | 'bigint'; readonly text: string }
  | { readonly [TAG]: 'map' | 'object'; readonly entries: readonly (readonly [unknown, unknown])[] }
  | { readonly [TAG]: 'set'; readonly values: readonly unknown[] }
  /** Index of a view; with kind and length at first use. */
  | { readonly [TAG]: 'view'; readonly index: number; readonly kind: number; readonly byteLength: number };

/**
 * Encodes a part as JSON: Bun does not support V8's format.
 * @param part structured-cloneable data
 */
export function encodePart(part: unknown): PartBytes {
  const indices = new Map<View, number>();
  const encode = (value: unknown): unknown => {
    if (typeof value === 'number')
      return isPlainNumber(value) ? value : tag({ [TAG]: 'number', text: showNumber(value) });
    if (typeof value === 'bigint') return tag({ [TAG]: 'bigint', text: String(value) });
    if (value === undefined) return tag({ [TAG]: 'undefined' });
    if (typeof value === 'string' || typeof value === 'boolean' || value === null) return value;
    if (Array.isArray(value)) return value.every(isPlainNumber) ? value : Array.from(value, encode);
    // By name, since realms have their own classes.
    const name = Object.prototype.toString.call(value).slice('[object '.length, -1);
    if (ArrayBuffer.isView(value)) return encodeView(value as View, name);
    if (name === 'Map') return tag({ [TAG]: 'map', entries: encodePairs(value as Map<unknown, unknown>) });
    if (name === 'Set') return tag({ [TAG]: 'set', values: Array.from(value as Set<unknown>, encode) });
    if (typeof value !== 'object' || name !== 'Object')
      throw new TypeError(`a journal stores plain data, not a ${name}`);
    const entries = encodePairs(Object.entries(value));
    return TAG in value ? tag({ [TAG]: 'object', entries }) : Object.fromEntries(entries as [string, unknown][]);
  };
  const encodePairs = (pairs: Iterable<readonly [unknown, unknown]>) =>
    Array.from(pairs, ([key, value]) => [encode(key), encode(value)] as const);
  const encodeView = (view: View, name: string): Tagged => {
    const kind = VIEWS.findIndex((each) => each.name === name);
    if (kind < 0) throw new TypeError(`a journal stores typed arrays, not a ${name}`);
    const index = indices.get(view) ?? indices.size;
    indices.set(view, index);
    return { [TAG]: 'view', index, kind, byteLength: view.byteLength };
  };
  const plain = new TextEncoder().encode(JSON.stringify(encode(part)));
  const views = [...indices.keys()].map((view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength));
  return { plain, views };
}

const tag = (tagged: Tagged): Tagged => tagged;

/** Whether JSON preserves a number exactly. */
const isPlainNumber = (value: unknown): boolean => Number.isFinite(value) && !Object.is(value, -0);

const showNumber = (value: number): string => (Object.is(value, -0) ? '-0' : String(value));

/** @param views concatenated memory of the views, which is copied */
export function decodePart(plain: Uint8Array, views: Uint8Array): unknown {
  const decoded: View[] = [];
  let at = 0;
  const decode = (value: unknown): unknown => {
    if (typeof value !== 'object' || value === null) return value;
    if (Array.isArray(value)) return value.every(isPlainNumber) ? value : value.map(decode);
    if (TAG in value) return decodeTagged(value as Tagged);
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, decode(item)]));
  };
  const decodePairs = (pairs: readonly (readonly [unknown, unknown])[]) =>
    pairs.map(([key, value]) => [decode(key), decode(value)] as const);
  const decodeTagged = (tagged: Tagged): unknown => {
    switch (tagged[TAG]) {
      case 'undefined':
        return undefined;
      case 'number':
        return Number(tagged.text);
      case 'bigint':
        return BigInt(tagged.text);
      case 'map':
        return new Map(decodePairs(tagged.entries));
      case 'object':
        return Object.fromEntries(decodePairs(tagged.entries));
      case 'set':
        return new Set(tagged.values.map(decode));
      case 'view':
        decoded[tagged.index] ??= decodeView(tagged.kind, tagged.byteLength);
        return decoded[tagged.index];
    }
  };
  const decodeView = (kind: number, byteLength: number): View => {
    const { buffer } = new Uint8Array(views.subarray(at, at + byteLength));
    at += byteLength;
    return new VIEWS[kind]!(buffer);
  };
  return decode(JSON.parse(new TextDecoder().decode(plain)));
}
