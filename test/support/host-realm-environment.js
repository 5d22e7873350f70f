import { TestEnvironment } from 'jest-environment-node';

const BINARY_CONSTRUCTORS = [
  'ArrayBuffer',
  'SharedArrayBuffer',
  'DataView',
  'Int8Array',
  'Uint8Array',
  'Uint8ClampedArray',
  'Int16Array',
  'Uint16Array',
  'Int32Array',
  'Uint32Array',
  'Float32Array',
  'Float64Array',
  'BigInt64Array',
  'BigUint64Array',
];

/** Gives tests the host's typed arrays: onnxruntime-node compares constructors and rejects those of jest's sandbox. */
export default class HostRealmEnvironment extends TestEnvironment {
  async setup() {
    await super.setup();
    for (const name of BINARY_CONSTRUCTORS) this.global[name] = globalThis[name];
  }
}
