import { Deserializer, Serializer } from 'node:v8';

/** Typed arrays that a part may hold; its bytes name them by their place here. */
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

/** A part of an entry as bytes: plain data, and behind them what its typed arrays hold, which is not copied. */
export interface PartBytes {
  readonly plain: Uint8Array;
  readonly views: readonly Uint8Array[];
}

/** @param part plain data, as structured clones take it */
export function encodePart(part: unknown): PartBytes {
  const views: Uint8Array[] = [];
  const serializer = Object.assign(new Serializer(), {
    _writeHostObject(view: View) {
      // By name, since contexts have classes of their own.
      const kind = VIEWS.findIndex(({ name }) => name === view[Symbol.toStringTag]);
      if (kind < 0) throw new TypeError(`a journal keeps typed arrays, not ${Object.prototype.toString.call(view)}`);
      serializer.writeUint32(kind);
      serializer.writeDouble(view.byteLength);
      views.push(new Uint8Array(view.buffer, view.byteOffset, view.byteLength));
    },
  });
  (serializer as unknown as { _setTreatArrayBufferViewsAsHostObjects(does: boolean): void })
    // Node.js does not type what it documents.
    ._setTreatArrayBufferViewsAsHostObjects(true);
  serializer.writeHeader();
  serializer.writeValue(part);
  return { plain: serializer.releaseBuffer(), views };
}

/** @param views what they hold, one after the other; it is copied */
export function decodePart(plain: Uint8Array, views: Uint8Array): unknown {
  let at = 0;
  const deserializer = Object.assign(new Deserializer(plain), {
    _readHostObject(): View {
      const kind = VIEWS[deserializer.readUint32()]!;
      const byteLength = deserializer.readDouble();
      const { buffer } = new Uint8Array(views.subarray(at, at + byteLength));
      at += byteLength;
      return new kind(buffer);
    },
  });
  deserializer.readHeader();
  return deserializer.readValue();
}
