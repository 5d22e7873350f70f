import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { ModelProtoSchema, StringStringEntryProtoSchema, type TensorProto, TensorProto_DataLocation } from 'onnx-buf';
import type { Random } from '../../src/linalg/random.js';
import { drawIndex, drawOne, type FileContent, type Mutant } from './mutate-bytes.js';
import { NASTY_NAMES } from './nasty.js';

const FILE = 'moved.weights';

/** Counts at the limits of 32, 53 and 64 bits, and texts that are no numbers. */
const COUNTS: readonly string[] = [
  ...['0', '1', '-1', '-0', '+4', ' 4', '4 ', '4.0', '1e3', '0x10', '', 'x', '00', '٤'],
  ...[
    2n ** 31n,
    2n ** 32n - 4n,
    2n ** 32n,
    2n ** 32n + 16n,
    2n ** 53n - 1n,
    2n ** 53n,
    2n ** 53n + 2n,
    2n ** 63n,
    2n ** 64n,
  ].map(String),
  '9'.repeat(400),
];

const LOCATIONS: readonly string[] = [
  ...['.', '..', '../model/model.onnx', '../tasks.jsonl', '/etc/passwd', '/dev/zero', '/dev/stdin', '/proc/self/mem'],
  ...[
    'config.json',
    'model.onnx',
    './moved.weights',
    'a/../moved.weights',
    'moved.weights/',
    'MOVED.weights',
    '\\moved',
    'C:\\x',
  ],
  ...['link', 'device', 'outside', 'folder', 'file:///etc/passwd', '%2e%2e/tasks.jsonl'],
  ...NASTY_NAMES,
];

/** Fraction of sparse files, which is small because some readers hash the entire file. */
const SPARSE_SHARE = 0.04;

type Entries = Record<string, string>;

const MUTATIONS: Readonly<Record<string, (entries: Entries, random: Random, others: readonly Entries[]) => void>> = {
  offset(entries, random) {
    entries.offset = drawOne(random, COUNTS);
  },
  length(entries, random) {
    entries.length = drawOne(random, COUNTS);
  },
  location(entries, random) {
    entries.location = drawOne(random, LOCATIONS);
  },
  overlapping(entries, random, others) {
    entries.offset = drawOne(random, others).offset!;
  },
  pastEnd(entries) {
    entries.offset = String(Number(entries.offset) + 4);
  },
  noLength(entries) {
    delete entries.length;
  },
  noLocation(entries) {
    delete entries.location;
  },
  otherKey(entries, random) {
    entries[drawOne(random, ['checksum', 'basepath', '__proto__', 'OFFSET'])] = drawOne(random, [
      ...COUNTS,
      ...LOCATIONS,
    ]);
  },
};

/** Moves a model's weights to external data with wrong positions; some files are sparse and larger than 4 GiB. */
export function mutateExternal(
  bytes: Uint8Array,
  random: Random,
  { subject, file }: { readonly subject: string; readonly file: string },
): Mutant<Uint8Array> {
  const proto = fromBinary(ModelProtoSchema, new Uint8Array(bytes));
  const moved = proto.graph!.initializer.flatMap((tensor) => {
    const content = contentOf(tensor, join(subject, dirname(file)));
    return content.length > 0 ? [{ tensor, content }] : [];
  });
  const start = random() < SPARSE_SHARE ? 2 ** 32 + 16 : 0;
  const parts: { at: number; bytes: Uint8Array }[] = [];
  let end = start;
  const entries = moved.map(({ content }): Entries => {
    parts.push({ at: end, bytes: content });
    const own = { location: FILE, offset: String(end), length: String(content.length) };
    end += content.length;
    return own;
  });
  const names: string[] = [`weights from ${start}`];
  for (let left = drawIndex(random, 3); left > 0 && entries.length > 0; left--) {
    const name = drawOne(random, Object.keys(MUTATIONS));
    MUTATIONS[name]!(drawOne(random, entries), random, entries);
    names.push(name);
  }
  for (const [at, { tensor }] of moved.entries()) moveOut(tensor, entries[at]!);
  const folder = dirname(file);
  const also = new Map<string, FileContent>([
    [join(folder, FILE), { byteLength: end, parts }],
    [join(folder, 'link'), { link: FILE }],
    [join(folder, 'device'), { link: '/dev/zero' }],
    [join(folder, 'outside'), { link: '../tasks.jsonl' }],
  ]);
  return { value: toBinary(ModelProtoSchema, proto), what: names.join(', '), also };
}

/** Bytes of a valid model's tensor, inside or outside the model file; empty for typed fields. */
function contentOf({ rawData, externalData }: TensorProto, folder: string): Uint8Array {
  const { location, offset = '0', length } = Object.fromEntries(externalData.map(({ key, value }) => [key, value]));
  if (location === undefined) return rawData;
  const start = Number(offset);
  return readFileSync(join(folder, location)).subarray(
    start,
    length === undefined ? undefined : start + Number(length),
  );
}

function moveOut(tensor: TensorProto, entries: Entries): void {
  tensor.rawData = new Uint8Array(0);
  tensor.dataLocation = TensorProto_DataLocation.EXTERNAL;
  tensor.externalData = Object.entries(entries).map(([key, value]) =>
    create(StringStringEntryProtoSchema, { key, value }),
  );
}
