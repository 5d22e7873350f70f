import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Random } from '../../src/linalg/random.js';
import { drawIndex, drawOne, type Mutant, mutateBytes } from './mutate-bytes.js';
import { mutateJson } from './mutate-json.js';
import { NASTY_FLOATS, NASTY_NAMES } from './nasty.js';

/** Parsed header of a safetensors file, and the bytes after it. */
interface Subject {
  readonly header: Record<string, Entry>;
  data: Uint8Array;
}

interface Entry {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}

const WIDTHS: Readonly<Record<string, number>> = { F32: 4, I32: 4, F64: 8, F16: 2, I64: 8 };
const NASTY_COUNTS: readonly number[] = [-1, 0, 1, 0.5, 2 ** 31, 2 ** 32 + 1, 2 ** 53, 2 ** 53 + 2, 1e300];
const NASTY_INDICES: readonly number[] = [-1, 0, 1, 2 ** 31 - 1, -(2 ** 31), 1000, 65_536];

type TensorsMutation = (subject: Subject, name: string, random: Random) => void;

/** Overwrites some elements by values of the tensor's type. */
const writeValues: TensorsMutation = ({ header, data }, name, random) => {
  const { dtype, data_offsets } = header[name]!;
  const [start, end] = data_offsets;
  const width = WIDTHS[dtype] ?? 1;
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const count = Math.floor((end - start) / width);
  for (let left = drawOne(random, [1, 1, 3, count]); left > 0 && count > 0; left--) {
    const at = start + width * drawIndex(random, count);
    if (dtype === 'F32') view.setFloat32(at, drawOne(random, NASTY_FLOATS), true);
    if (dtype === 'F64') view.setFloat64(at, drawOne(random, [...NASTY_FLOATS, 1e308, -1e308, 5e-324]), true);
    if (dtype === 'I32') view.setInt32(at, drawOne(random, NASTY_INDICES), true);
  }
};

const MUTATIONS: Readonly<Record<string, TensorsMutation>> = {
  values: writeValues,
  moreValues: writeValues,
  allAlike({ header, data }, name) {
    const [start, end] = header[name]!.data_offsets;
    const first = data.slice(start, start + (WIDTHS[header[name]!.dtype] ?? 1));
    // An earlier mutation may have put the end far outside.
    for (let at = start; at < Math.min(end, data.length); at++) data[at] = first[(at - start) % first.length]!;
  },
  reversed({ header, data }, name) {
    data.subarray(...header[name]!.data_offsets).reverse();
  },
  gone({ header, data }, name) {
    const [start, end] = header[name]!.data_offsets;
    delete header[name];
    for (const other of Object.values(header)) {
      if (other.data_offsets[0] < end) continue;
      other.data_offsets = [other.data_offsets[0] - (end - start), other.data_offsets[1] - (end - start)];
    }
    data.copyWithin(start, end);
  },
  renamed({ header }, name, random) {
    const entry = header[name]!;
    delete header[name];
    const to = drawOne(random, [...NASTY_NAMES, ...Object.keys(header)]);
    Object.defineProperty(header, to, { value: entry, enumerable: true, configurable: true, writable: true });
  },
  swapped({ header }, name, random) {
    const other = drawOne(random, Object.keys(header));
    [header[name], header[other]] = [header[other]!, header[name]!];
  },
  shape({ header }, name, random) {
    const { shape } = header[name]!;
    shape[drawIndex(random, shape.length + 1)] = drawOne(random, NASTY_COUNTS);
  },
  shapeTurned({ header }, name) {
    header[name]!.shape.reverse();
  },
  shapeFlat({ header }, name) {
    header[name]!.shape = [header[name]!.shape.reduce((product, size) => product * size, 1)];
  },
  type({ header }, name, random) {
    header[name]!.dtype = drawOne(random, [...Object.keys(WIDTHS), 'U32', 'F8', '__proto__', '']);
  },
  offsets({ header }, name, random) {
    header[name]!.data_offsets[drawIndex(random, 2)] = drawOne(random, NASTY_COUNTS);
  },
  offsetsShared({ header }, name, random) {
    header[name]!.data_offsets = [...drawOne(random, Object.values(header)).data_offsets];
  },
  longer(subject) {
    subject.data = Buffer.concat([subject.data, new Uint8Array(16)]);
  },
};

/** Changes the header or the bytes of a safetensors file, and its hash in the JSON file, so that reading does not end there. */
export function mutateTensors(
  content: Uint8Array,
  random: Random,
  { subject, file }: { readonly subject: string; readonly file: string },
): Mutant<Uint8Array> {
  const { value, what } = random() < 0.15 ? mutateBytes(content, random) : mutateHeaderAndData(content, random);
  const jsonFile = file.replace(/\.safetensors$/, '.json');
  const json = JSON.parse(readFileSync(join(subject, jsonFile), 'utf8')) as {
    tensors: { sha256: string };
    result?: unknown;
  };
  if (random() < 0.05) return { value, what };
  // The recipe's expected result would reveal changed tensors at once.
  if (random() < 0.7) delete json.result;
  json.tensors.sha256 = createHash('sha256').update(value).digest('hex');
  return { value, what, also: new Map([[jsonFile, Buffer.from(JSON.stringify(json))]]) };
}

function mutateHeaderAndData(content: Uint8Array, random: Random): Mutant<Uint8Array> {
  const bytes = Buffer.from(content);
  const headerBytes = Number(bytes.readBigUInt64LE(0));
  const text = bytes.toString('utf8', 8, 8 + headerBytes);
  const rest = Uint8Array.from(bytes.subarray(8 + headerBytes));
  if (random() < 0.2) {
    const { value, what } = mutateJson(text, random);
    return { value: join3(value, rest), what: `header: ${what}` };
  }
  const subject: Subject = { header: JSON.parse(text) as Record<string, Entry>, data: rest };
  const names: string[] = [];
  for (let left = 1 + drawIndex(random, 2); left > 0; left--) {
    const tensors = Object.keys(subject.header).filter((name) => name !== '__metadata__');
    if (tensors.length === 0) break;
    const [mutation, name] = [drawOne(random, Object.keys(MUTATIONS)), drawOne(random, tensors)];
    try {
      MUTATIONS[mutation]!(subject, name, random);
    } catch (error) {
      // An earlier mutation made further changes impossible.
      if (!(error instanceof RangeError || error instanceof TypeError)) throw error;
    }
    names.push(`${mutation} ${name.slice(0, 40)}`);
  }
  const header = new TextEncoder().encode(JSON.stringify(subject.header));
  return { value: join3(header, subject.data), what: names.join(', ') };
}

function join3(header: Uint8Array, data: Uint8Array): Uint8Array {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  return Buffer.concat([length, header, data]);
}
