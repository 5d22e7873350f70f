/**
 * Prunes, or with --quantize writes in q4, two synthetic decoders that differ only in their number of blocks, each in a separate
 * process, and compares the peak memory, which must not grow with the blocks.
 *
 *   npx tsx scripts/check-memory.ts [FOLDER] [--blocks 26] [--times 3] [--hidden 768] [--method flap] [--modules all] [--heal] [--quantize]
 *
 * With the defaults the larger model has 2.2 GB of weights. FOLDER for the models: by default a temporary one.
 */
import { execFileSync } from 'node:child_process';
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { create, toBinary } from '@bufbuild/protobuf';
import {
  GraphProtoSchema,
  ModelProtoSchema,
  type NodeProto,
  OperatorSetIdProtoSchema,
  StringStringEntryProtoSchema,
  type TensorProto,
  TensorProto_DataLocation,
  TensorProtoSchema,
} from 'onnx-buf';
import { createRandom } from '../src/linalg/random.js';
import { prune, quantize } from '../src/node.js';
import { makeInt64Initializer, makeNode, makeValueInfo } from '../src/onnx/build.js';

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    blocks: { type: 'string', default: '26' },
    times: { type: 'string', default: '3' },
    hidden: { type: 'string', default: '768' },
    method: { type: 'string', default: 'flap' },
    modules: { type: 'string', default: 'all' },
    heal: { type: 'boolean', default: false },
    quantize: { type: 'boolean', default: false },
    run: { type: 'string' },
  },
});

/** Most that the larger model's peak may be, relative to the smaller one's. */
const LIMIT = 1.1;
const VOCABULARY = 4096;
const HEAD_SIZE = 64;

if (flags.run !== undefined) await runOnce(flags.run);
else await compare();

async function compare(): Promise<void> {
  const folder = positionals[0] ?? mkdtempSync(join(tmpdir(), 'fang-prune-memory-'));
  mkdirSync(folder, { recursive: true });
  const few = Number(flags.blocks);
  const given = [
    ...['--method', flags.method, '--modules', flags.modules],
    ...(['heal', 'quantize'] as const).flatMap((name) => (flags[name] ? [`--${name}`] : [])),
  ];
  const peaks = [few, few * Number(flags.times)].map((blockCount) => {
    const path = join(folder, `blocks-${blockCount}`);
    const bytes = writeModel(path, blockCount, Number(flags.hidden));
    const peak = Number(
      execFileSync(process.execPath, ['--import', 'tsx', process.argv[1]!, '--run', path, ...given], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'inherit'],
      }),
    );
    for (const made of [path, `${path}-pruned`]) rmSync(made, { recursive: true });
    console.log(`${blockCount} blocks, ${(bytes / 1e6).toFixed(0)} MB of weights: peak ${(peak / 1e6).toFixed(0)} MB`);
    return peak;
  });
  if (positionals[0] === undefined) rmSync(folder, { recursive: true });
  const ratio = peaks[1]! / peaks[0]!;
  console.log(`ratio ${ratio.toFixed(3)}, limit ${LIMIT}`);
  if (!(ratio <= LIMIT)) process.exitCode = 1;
}

/** The child: prunes or quantises a model and prints the peak resident bytes of the process. */
async function runOnce(model: string): Promise<void> {
  const random = createRandom(1);
  const windows = Array.from({ length: 16 }, () =>
    Array.from({ length: 128 }, () => Math.floor(random() * VOCABULARY)),
  );
  const calibration = { source: { tokens: windows.flat() }, windowCount: windows.length, windowLength: 128 };
  const shared = { model, out: `${model}-pruned` };
  const { peakMemoryBytes } = flags.quantize
    ? await quantize({ ...shared, dtype: 'q4', calibration: { ...calibration, generate: false } })
    : await prune({
        ...shared,
        calibration,
        sparsity: 0.3,
        method: flags.method,
        modules: flags.modules as 'all',
        ...(flags.heal && { heal: { windowCount: 8, share: 0 } }),
      });
  console.log(peakMemoryBytes);
}

/** Writes a pre-norm decoder with external data and gives the bytes of its weights. */
function writeModel(path: string, blockCount: number, hidden: number): number {
  mkdirSync(path, { recursive: true });
  const file = openSync(join(path, 'model.onnx.data'), 'w');
  const random = createRandom(7);
  // One buffer of noise for all weights, each of which is still stored separately in the file.
  const noise = Float32Array.from({ length: Math.max(4 * hidden, VOCABULARY) * hidden }, () => (random() - 0.5) / 14);
  const nodes: NodeProto[] = [];
  const initializers: TensorProto[] = [];
  let offset = 0;
  const weight = (...dims: number[]): string => {
    const length = 4 * dims.reduce((product, dim) => product * dim, 1);
    const entry = (key: string, value: unknown) => create(StringStringEntryProtoSchema, { key, value: String(value) });
    writeSync(file, new Uint8Array(noise.buffer, 0, length));
    const name = `weight_${initializers.length}`;
    initializers.push(
      create(TensorProtoSchema, {
        name,
        dataType: 1,
        dims: dims.map(BigInt),
        dataLocation: TensorProto_DataLocation.EXTERNAL,
        externalData: [entry('location', 'model.onnx.data'), entry('offset', offset), entry('length', length)],
      }),
    );
    offset += length;
    return name;
  };
  const ints = (...values: number[]): string => {
    const name = `ints_${initializers.length}`;
    initializers.push(makeInt64Initializer(name, values));
    return name;
  };
  const op = (type: string, inputs: string[], attributes = {}, output = `${type}_${nodes.length}`): string => {
    nodes.push(makeNode({ op: type, name: output, inputs, outputs: [output], attributes }));
    return output;
  };
  const norm = (x: string) => op('LayerNormalization', [x, weight(hidden)]);
  const heads = (x: string) =>
    op('Transpose', [op('Reshape', [x, ints(0, 0, hidden / HEAD_SIZE, HEAD_SIZE)])], { perm: [0, 2, 1, 3] });
  const size = op('Shape', ['input_ids']);
  const length = op('Squeeze', [op('Gather', [size, ints(1)])]);
  const range = op('Range', [op('Squeeze', [ints(0)]), length, op('Squeeze', [ints(1)])]);
  const future = op('Less', [op('Unsqueeze', [range, ints(1)]), op('Unsqueeze', [range, ints(0)])]);
  const mask = op('Mul', [op('Cast', [future], { to: 1 }), op('Cast', [ints(-1e9)], { to: 1 })]);
  let x = op('Gather', [weight(VOCABULARY, hidden), 'input_ids']);
  for (let block = 0; block < blockCount; block += 1) {
    const normed = norm(x);
    const [query, key, value] = [0, 1, 2].map(() => heads(op('MatMul', [normed, weight(hidden, hidden)])));
    const scores = op('MatMul', [query!, op('Transpose', [key!], { perm: [0, 1, 3, 2] })]);
    const mixed = op('MatMul', [op('Softmax', [op('Add', [scores, mask])]), value!]);
    const merged = op('Reshape', [op('Transpose', [mixed], { perm: [0, 2, 1, 3] }), ints(0, 0, hidden)]);
    x = op('Add', [x, op('MatMul', [merged, weight(hidden, hidden)])]);
    const up = op('Relu', [op('MatMul', [norm(x), weight(hidden, 4 * hidden)])]);
    x = op('Add', [x, op('MatMul', [up, weight(4 * hidden, hidden)])]);
  }
  op('MatMul', [norm(x), weight(hidden, VOCABULARY)], {}, 'logits');
  closeSync(file);
  const model = create(ModelProtoSchema, {
    irVersion: 8n,
    opsetImport: [create(OperatorSetIdProtoSchema, { domain: '', version: 17n })],
    graph: create(GraphProtoSchema, {
      name: 'synthetic',
      node: nodes,
      initializer: initializers,
      input: [makeValueInfo('input_ids', 7, ['batch', 'sequence'])],
      output: [makeValueInfo('logits', 1, ['batch', 'sequence', VOCABULARY])],
    }),
  });
  writeFileSync(join(path, 'model.onnx'), toBinary(ModelProtoSchema, model));
  return offset;
}
