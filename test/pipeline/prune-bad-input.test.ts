import { rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type ModelProto, TensorProto_DataLocation } from 'onnx-buf';
import type { FangPruneError } from '../../src/errors.js';
import { type PruneRequest, prune } from '../../src/node.js';
import { copyShortLlama } from '../support/short-llama.js';
import { listFiles, useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();
const at = (path: string) => join(folder(), path);

const tokens = Array.from({ length: 96 }, (_, position) => (position * 613) % 2048);

/** A valid run of a second, to which each case adds an error. */
const VALID = {
  sparsity: 0.3,
  method: 'flap',
  evaluation: false,
  calibration: { source: { tokens }, windowLength: 24, generate: false },
} as const satisfies Partial<PruneRequest>;

const calibration = (change: PruneRequest['calibration']) => ({ calibration: { ...VALID.calibration, ...change } });

/** `up` and `gate` of block 0, `[192, 256]`, and the last norm. */
const [UP, GATE, NORM] = ['onnx::MatMul_1900', 'onnx::MatMul_1899', 'model.norm.weight'];

const weightOf = ({ graph }: ModelProto, name: string) => graph!.initializer.find((tensor) => tensor.name === name)!;

/** Changes the numbers of a float weight. */
const change = (name: string, edit: (values: Float32Array) => void) => (proto: ModelProto) => {
  const weight = weightOf(proto, name);
  const values = new Float32Array(Uint8Array.from(weight.rawData).buffer);
  edit(values);
  weight.rawData = new Uint8Array(values.buffer);
};

const setNaN = change(UP, (values) => values.fill(Number.NaN, 7, 8));

/** Declares a weight as external data. */
const outside =
  (location: string, length = '196608') =>
  (proto: ModelProto) => {
    const entry = (key: string, value: string) => ({ $typeName: 'onnx.StringStringEntryProto' as const, key, value });
    Object.assign(weightOf(proto, UP), {
      rawData: new Uint8Array(0),
      dataLocation: TensorProto_DataLocation.EXTERNAL,
      externalData: [entry('location', location), entry('length', length)],
    });
  };

/** Changes the type of the operator that reads `up`. */
const setOperator = (opType: string) => (proto: ModelProto) => {
  const node = proto.graph!.node.find(({ input }) => input.includes(UP))!;
  Object.assign(node, { opType, domain: 'com.microsoft' });
};

const readPixels = ({ graph }: ModelProto) => {
  for (const { input } of graph!.node)
    for (const [position, name] of input.entries()) if (name === 'input_ids') input[position] = 'pixel_values';
  graph!.input.find(({ name }) => name === 'input_ids')!.name = 'pixel_values';
};

interface Case {
  readonly edit?: (proto: ModelProto) => void;
  /** Damages files of the model. */
  readonly damage?: (model: string) => Promise<void>;
  readonly options?: Partial<PruneRequest>;
  readonly code: FangPruneError['code'];
  readonly message: RegExp;
}

const CASES: Readonly<Record<string, Case>> = {
  'a truncated model': {
    damage: (model) => truncate(join(model, 'onnx/model.onnx'), 3_000_000),
    code: 'ERR_MODEL_FORMAT',
    message: /in\/onnx\/model\.onnx is damaged at byte 18: .* its message ends at 3000000\. Get the file again/,
  },
  'a missing external file': {
    edit: outside('gone.bin'),
    code: 'ERR_MODEL_FORMAT',
    message: /"onnx::MatMul_1900" .*"gone\.bin" of .*no such file\. Put it next to the model/,
  },
  'external data outside the folder': {
    edit: outside('../config.json'),
    code: 'ERR_MODEL_FORMAT',
    message: /"onnx::MatMul_1900" .*"\.\.\/config\.json" of .*not a path inside the folder\. Only files next to/,
  },
  'external data of another length': {
    edit: outside('model.onnx', '12'),
    code: 'ERR_MODEL_FORMAT',
    message: /"onnx::MatMul_1900" .*length "12" is not the 196608 bytes of its shape/,
  },
  'raw data of another length': {
    edit: (proto) => {
      weightOf(proto, UP).rawData = new Uint8Array(12);
    },
    code: 'ERR_MODEL_FORMAT',
    message: /"onnx::MatMul_1900" is float\[192, 256\], 196608 bytes, but 12 bytes are stored\. Get the file again/,
  },
  ...Object.fromEntries(
    ['tokenizer_config', 'special_tokens_map', 'added_tokens', 'chat_template'].map((name) => [
      `a truncated ${name}.json`,
      {
        damage: (model: string) => writeFile(join(model, `${name}.json`), '{ "bos_token": "<s'),
        code: 'ERR_MODEL_FORMAT',
        message: RegExp(`in/${name}\\.json is not a usable JSON file: .*\\. Get the file again`),
      } as const,
    ]),
  ),
  'a vision model': {
    edit: readPixels,
    code: 'ERR_UNSUPPORTED_MODEL',
    message: /"pixel_values" is not a known input of text decoders.*images/,
  },
  'a 4-bit model': {
    edit: setOperator('MatMulNBits'),
    code: 'ERR_UNSUPPORTED_MODEL',
    message: /MatMulNBits "\/model\/layers\.0\/mlp\/up_proj\/MatMul": .*prune the float model and quantise the result/,
  },
  'no calibration tokens': {
    options: calibration({ source: { tokens: [] } }),
    code: 'ERR_OPTION',
    message: /found 0 tokens, and one window needs 24 .*give more text/,
  },
  'an empty calibration text': {
    options: calibration({ source: { text: '' } }),
    code: 'ERR_OPTION',
    message: /found 0 tokens, and one window needs 24 .*give more text/,
  },
  'an id beyond the vocabulary': {
    options: calibration({ source: { tokens: [1, 2, 2048] } }),
    code: 'ERR_OPTION',
    message: /document 0 has token id 2048 at position 2, .*0 to 2047; was the text tokenized for another model/,
  },
  'a text without a tokenizer': {
    damage: (model) => rm(join(model, 'tokenizer.json')),
    options: calibration({ source: { text: 'Once upon a time' } }),
    code: 'ERR_OPTION',
    message: /document 0 is text, and there is no tokenizer .*pass a tokenizer, or token ids: lines of/,
  },
  'fewer tokens than contexts': {
    options: { method: 'o-fang', ...calibration({ windowLength: 3, windowCount: 2 }) },
    code: 'ERR_OPTION',
    message: /6 tokens cannot make 7 contexts: use more calibration tokens or fewer contexts/,
  },
  ...Object.fromEntries(
    ['flap', 'magnitude', 'auto'].map((method) => [
      `NaN among the weights (${method})`,
      {
        edit: setNaN,
        options: { method, ...(method === 'magnitude' && { calibration: undefined }) },
        code: 'ERR_NUMERICAL',
        message: /"onnx::MatMul_1900", float\[192, 256\], contains NaN at position 7; get the model again/,
      },
    ]),
  ),
  ...Object.fromEntries(
    ['flap', 'magnitude', 'auto'].map((method) => [
      `infinity in a linear layer that is not pruned (${method})`,
      {
        edit: change(UP, (values) => values.fill(Number.NEGATIVE_INFINITY, 7, 8)),
        options: { method, modules: 'attention', ...(method === 'magnitude' && { calibration: undefined }) },
        code: 'ERR_NUMERICAL',
        message: /"onnx::MatMul_1900", float\[192, 256\], contains Infinity at position 7; get the model again/,
      },
    ]),
  ),
  'activations that overflow': {
    edit: change(UP, (values) => values.fill(3e38)),
    code: 'ERR_NUMERICAL',
    message:
      /input of MatMul "\/model\/layers\.0\/mlp\/down_proj\/MatMul" is NaN or infinite; check the model's weights/,
  },
  'NaN gradients when curvature is measured': {
    edit: change(NORM, (values) => values.fill(3e38)),
    options: { method: 'auto' },
    code: 'ERR_NUMERICAL',
    message: /block 1 attention: the gradient of the loss is NaN or infinite; check the weights/,
  },
  'NaN gradients when affinity is measured': {
    edit: change(NORM, (values) => values.fill(3e38)),
    options: { method: 'f-fang' },
    code: 'ERR_NUMERICAL',
    message: /gradient of neuron 0 in block 1 is NaN or infinite; check the weights/,
  },
  'gradients that are all zero': {
    edit: change(NORM, (values) => values.fill(0)),
    options: { method: 'auto' },
    code: 'ERR_NUMERICAL',
    message: /block 1 attention: the gradient of the loss is zero on all calibration tokens.*set metric: 'output'/,
  },
  ...Object.fromEntries(
    [-0.1, 1, Number.NaN].map((sparsity) => [
      `a sparsity of ${sparsity}`,
      {
        options: { sparsity },
        code: 'ERR_OPTION',
        message: RegExp(`sparsity is ${sparsity}; expected .*such as 0\\.3`),
      },
    ]),
  ),
  'a temperature of 0': {
    options: { method: 'o-fang', weighting: { temperature: { absolute: 0 } } },
    code: 'ERR_OPTION',
    message: /weighting\.temperature\.absolute is 0; expected a number above 0/,
  },
  'a budget that cannot be met with skipped blocks': {
    options: { sparsity: 0.5, blockSparsity: { 0: 0 } },
    code: 'ERR_OPTION',
    message: /removes 50\.00 % .*at most 44\.53 % can be removed, 28224 parameters too few; lower the sparsity or fix/,
  },
  'a budget that cannot be met with minimumWidth': {
    options: { sparsity: 0.5, method: 'auto', modules: 'ffn', minimumWidth: 0.9 },
    code: 'ERR_OPTION',
    message: /removes 50\.00 % .* at most 9\.7[67] % can be removed, 118656 parameters too few; lower the sparsity/,
  },
  'an output that is a file': {
    damage: (model) => writeFile(join(model, '../out'), ''),
    code: 'ERR_OPTION',
    message: /\/out is a file\. Choose a folder that does not exist yet/,
  },
};

describe.each(Object.entries(CASES))('%s', (_, { edit, damage, options, code, message }) => {
  it('stops the run with a typed error, and no files are written', async () => {
    const model = await copyShortLlama(at('in'), edit);
    await damage?.(model);
    const before = await listFiles(folder());
    const error: unknown = await prune({ ...VALID, ...options, model, out: at('out') }).catch((caught) => caught);
    expect(error).toMatchObject({ code, message: expect.stringMatching(message) });
    expect(await listFiles(folder())).toEqual(before);
  });
});

/** Sets a neuron's columns in `up` and `gate`. */
const setNeurons =
  (neurons: readonly number[], value: (values: Float32Array, row: number) => number) => (proto: ModelProto) => {
    for (const name of [UP, GATE])
      change(name, (values) => {
        for (let row = 0; row < 192; row++)
          for (const index of neurons) values[row * 256 + index] = value(values, row * 256);
      })(proto);
  };

interface Oddity extends Pick<Case, 'edit' | 'options'> {
  /** Neurons of block 0, of which at least one is removed. */
  readonly first?: readonly number[];
  /** One of the remarks. */
  readonly remark?: RegExp;
  /** All remarks, in order. */
  readonly allRemarks?: readonly RegExp[];
}

const ZERO = /^2 of \d+ FFN neurons are zero on all calibration tokens \(block 0\)$/;
const PADDING = /^4 of 4 calibration windows repeat a single token, such as padding \(window 0: token 9\)/;
const CONSTANT = /^\d+ of \d+ FFN neurons are the same on all calibration tokens/;

const ONE_TOKEN = { source: { tokens: new Array<number>(96).fill(9) } };
const dead = setNeurons([3, 77], () => 0);

const ODDITIES: Readonly<Record<string, Oddity>> = {
  'a dead neuron (flap)': { edit: dead, first: [3], allRemarks: [ZERO] },
  'a dead neuron (obc)': { edit: dead, options: { method: 'obc' }, first: [77], allRemarks: [ZERO] },
  'a dead neuron (o-fang)': { edit: dead, options: { method: 'o-fang' }, first: [77], allRemarks: [ZERO] },
  'duplicate neurons (obc)': {
    edit: setNeurons([3], (values, row) => values[row + 4]!),
    options: { method: 'obc' },
    first: [3, 4],
    allRemarks: [/^1 of 512 FFN neurons equal another one of their group on all calibration tokens \(block 0\)$/],
  },
  'a Hessian of rank 1': { options: { method: 'obc', ...calibration(ONE_TOKEN) }, allRemarks: [PADDING, CONSTANT] },
  'a Hessian of low rank': { options: { method: 'auto', ...calibration(ONE_TOKEN) }, allRemarks: [PADDING, CONSTANT] },
  'a curvature and a Hessian of low rank': {
    options: { method: 'auto', metric: 'loss', ...calibration(ONE_TOKEN) },
    remark: /^block 0 ffn: dampening of the curvature of 192 outputs raised from 0\.000001 to .*: few tokens/,
  },
  'windows without a token of some contexts': {
    options: {
      method: 'o-fang',
      grouping: { clusterBalance: Number.POSITIVE_INFINITY },
      weighting: { variant: 'per-window' },
      ...calibration({ source: { tokens: [...ONE_TOKEN.source.tokens.slice(48), ...tokens.slice(48)] } }),
    },
    allRemarks: [/^2 of 4 calibration windows repeat a single token/],
  },
  'no affinity to any context': {
    edit: change(NORM, (values) => values.fill(0)),
    options: { method: 'f-fang' },
    remark: /^block 0 ffn: no neuron has affinity to any context, so that groups are by index/,
  },
};

describe.each(Object.entries(ODDITIES))('%s', (_, { edit, options, first, remark, allRemarks = [] }) => {
  it('is pruned to the sparsity, with a remark', async () => {
    const model = await copyShortLlama(at('in'), edit);
    const report = await prune({ ...VALID, modules: 'ffn', ...options, model, out: at('out') });
    // One of 512 neurons.
    expect(Math.abs(report.sparsity.achieved - 0.3)).toBeLessThan(0.002);
    expect(report.certificate!.gap).toBeLessThan(report.certificate!.tolerance);
    const { keep } = report.modules.find(({ block, kind }) => block === 0 && kind === 'ffn')!;
    if (first !== undefined) expect(first.filter((unit) => !keep.includes(unit))).not.toEqual([]);
    const remarks = report.remarks.filter((message) => !/^calibrated on \d+ tokens/.test(message));
    if (remark === undefined) expect(remarks).toEqual(allRemarks.map((message) => expect.stringMatching(message)));
    else expect(report.remarks).toContainEqual(expect.stringMatching(remark));
  });
});
