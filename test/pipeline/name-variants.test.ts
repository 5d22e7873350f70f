import { writeDtypeConfig, writeOwnDtype } from '../../src/pipeline/name-variants.js';

describe('transformers.js_config', () => {
  const q4 = { dtype: 'q4', file: 'onnx/model_q4.onnx', externalFileCount: 0 } as const;
  const fp16 = { dtype: 'fp16', file: 'onnx/model_fp16.onnx', externalFileCount: 3 } as const;
  const q2f16 = { dtype: 'q2f16', file: 'onnx/model_q2f16.onnx', externalFileCount: 1 } as const;

  it('has the first dtype, the caches in float16, and the numbers of external data files', () => {
    const given = { a: 1, dtype: 'fp32', kv_cache_dtype: 'x', use_external_data_format: true };
    expect(writeDtypeConfig({ b: 2, 'transformers.js_config': given }, [q4, fp16, q2f16])).toEqual({
      b: 2,
      'transformers.js_config': {
        a: 1,
        dtype: 'q4',
        kv_cache_dtype: { fp16: 'float16', q2f16: 'float16' },
        use_external_data_format: { 'model_fp16.onnx': 3, 'model_q2f16.onnx': 1 },
      },
    });
    expect(writeDtypeConfig({}, [q4])).toEqual({ 'transformers.js_config': { dtype: 'q4' } });
  });

  it('has the dtype of each part if there is an embedding model', () => {
    const decoder = { ...q4, file: 'onnx/decoder_model_merged_q4.onnx' };
    const given = { dtype: { vision_encoder: 'fp16', embed_tokens: 'q8' } };
    const stated = writeDtypeConfig({ 'transformers.js_config': given }, [decoder], 'onnx/embed_tokens_fp16.onnx');
    const dtype = { vision_encoder: 'fp16', embed_tokens: 'fp16', decoder_model_merged: 'q4' };
    expect(stated['transformers.js_config']).toEqual({ dtype });
  });

  it.each([
    ['onnx/model.onnx', ['model.onnx_data'], { dtype: 'fp32', use_external_data_format: { 'model.onnx': 1 } }],
    [
      'onnx/model_q4.onnx',
      ['model_q4.onnx_data', 'model_q4.onnx_data_1'],
      { dtype: 'q4', use_external_data_format: { 'model_q4.onnx': 2 } },
    ],
    // No dtype leads to this name.
    ['onnx/model_q8.onnx', [], undefined],
    // transformers.js looks for no data under another name.
    ['onnx/model_quantized.onnx', ['weights.bin'], { dtype: 'q8' }],
    ['onnx/model_fp16.onnx', [], { dtype: 'fp16' }],
    ['model.onnx', ['model.onnx_data'], undefined],
  ])('has dtype and external data of a model that keeps its name: %s with %j', (modelFile, external, expected) => {
    expect(writeOwnDtype({}, { modelFile, external })).toEqual(
      expected === undefined ? {} : { 'transformers.js_config': expected },
    );
  });

  it('keeps entries of the source', () => {
    const config = { 'transformers.js_config': { use_external_data_format: { 'model.onnx': 1, 'vision.onnx': 1 } } };
    const model = { modelFile: 'onnx/model.onnx', external: ['model.onnx_data'] };
    expect(writeOwnDtype(config, model)['transformers.js_config']).toEqual({
      dtype: 'fp32',
      use_external_data_format: { 'model.onnx': 1, 'vision.onnx': 1 },
    });
  });
});
