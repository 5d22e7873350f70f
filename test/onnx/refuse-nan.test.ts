import { create } from '@bufbuild/protobuf';
import { NodeProtoSchema } from 'onnx-buf';
import { NumericalError } from '../../src/errors.js';
import type { OnnxModel } from '../../src/onnx/onnx-model.js';
import { refuseNaN } from '../../src/onnx/refuse-nan.js';
import { bytesHandle, floatsHandle } from '../../src/onnx/tensor-handle.js';
import { smallModel } from './small-model.js';

const watch = (weights: OnnxModel['weights']) => refuseNaN({ proto: smallModel(), weights }).weights.get('w')!;
const withNaN = [0, Number.POSITIVE_INFINITY, Number.NaN, -1];

describe('refuseNaN', () => {
  it.each([1, 10, 16])('names weight and position in data type %d', async (dataType) => {
    const handle = watch(new Map([['w', floatsHandle({ dataType, dims: [2, 2] }, Float64Array.from(withNaN))]]));
    await expect(handle.read()).rejects.toThrow(NumericalError);
    await expect(handle.read()).rejects.toThrow(/weight "w", .*\[2, 2\], contains NaN at position 2;/);
    const size = handle.byteLength / 4;
    await expect(handle.read({ offset: size, length: 2 * size })).rejects.toThrow(/position 2;/);
    expect(await handle.read({ offset: 0, length: 2 * size })).toHaveLength(2 * size);
  });

  it('accepts infinities and other types', async () => {
    const infinite = Float64Array.of(Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY, -0, 1e-40);
    const float = floatsHandle({ dataType: 1, dims: [4] }, infinite);
    expect(await watch(new Map([['w', float]])).read()).toEqual(await float.read());
    const integers = bytesHandle({ dataType: 6, dims: [1] }, Uint8Array.of(255, 255, 255, 255));
    expect(watch(new Map([['w', integers]]))).toBe(integers);
  });

  it('refuses infinity in weights of linear layers, also of transposed ones', async () => {
    const infinite = floatsHandle({ dataType: 10, dims: [2, 2] }, Float64Array.of(0, 1, Number.NEGATIVE_INFINITY, 2));
    const node = (opType: string, input: string[], output: string) =>
      create(NodeProtoSchema, { opType, input, output: [output] });
    const proto = smallModel();
    proto.graph!.node = [
      node('Transpose', ['turned'], 'w2'),
      node('MatMul', ['x', 'w2'], 'y'),
      node('Gemm', ['y', 'direct'], 'z'),
      node('Add', ['z', 'mask'], 'logits'),
    ];
    const { weights } = refuseNaN({
      proto,
      weights: new Map(['turned', 'direct', 'mask'].map((name) => [name, infinite])),
    });
    for (const name of ['turned', 'direct'])
      await expect(weights.get(name)!.read()).rejects.toThrow(
        `weight "${name}", float16[2, 2], contains Infinity at position 2;`,
      );
    expect(await weights.get('mask')!.read()).toEqual(await infinite.read());
  });

  it('checks the rest after a part without NaN was read', async () => {
    const handle = watch(new Map([['w', floatsHandle({ dataType: 1, dims: [4] }, Float64Array.from(withNaN))]]));
    await handle.read({ offset: 0, length: 8 });
    await expect(handle.read()).rejects.toThrow(NumericalError);
  });
});
