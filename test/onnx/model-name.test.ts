import { parseModelName } from '../../src/onnx/model-name.js';

it.each([
  ['model.onnx', 'model', ''],
  ['model_fp16.onnx', 'model', '_fp16'],
  ['decoder_model_merged_q4f16.onnx_data_1', 'decoder_model_merged', '_q4f16'],
  ['embed_tokens_quantized.onnx', 'embed_tokens', '_quantized'],
  ['vision_encoder_bnb4.onnx.data', 'vision_encoder', '_bnb4'],
  ['phi-3-v-128k-instruct-text.onnx', 'phi-3-v-128k-instruct-text', ''],
  ['model-int4.ONNX', 'model', '-int4'],
  ['model_fp16_O2.onnx', 'model', '_fp16_O2'],
  ['fp16.onnx', 'fp16', ''],
])('splits %s into stem and variant', (file, stem, variant) => {
  expect(parseModelName(file)).toEqual({ stem, variant });
});

it.each(['config.json', 'onnx', '.onnx', 'model.onnx.txt'])('returns undefined for %s', (file) => {
  expect(parseModelName(file)).toBeUndefined();
});
