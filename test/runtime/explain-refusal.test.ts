import { explainRefusal } from '../../src/runtime/explain-refusal.js';

/** Messages of onnxruntime-node 1.21.0 and 1.30.0, without paths and signatures. */
const REFUSALS: readonly (readonly [string, RegExp])[] = [
  [
    'Failed to load model with error: model.cc:180 onnxruntime::Model::Model() Unsupported model IR version: 11, max supported IR version: 10\n',
    /^ONNX Runtime 1\.21\.0 is loaded; IR version 11 needs 1\.23 or newer\./,
  ],
  ['Unsupported model IR version: 14, max supported IR version: 13\n', /IR version 14 needs a newer one\./],
  [
    'ONNX Runtime only *guarantees* support for models stamped with official released onnx opset versions. Opset 24 is under development and support for this is limited. The operator schemas and or other functionality may change before next ONNX release and in this case ONNX Runtime will not guarantee backward compatibility. Current official support for domain ai.onnx is till opset 22.',
    /opset 24 of ai\.onnx needs 1\.24 or newer/,
  ],
  [
    'Opset 7 is under development and support for this is limited. Current official support for domain ai.onnx.ml is till opset 5.',
    /opset 7 of ai\.onnx\.ml needs a newer one/,
  ],
  [
    'This is an invalid model. In Node, ("", RMSNormalization, "", -1) : ("x": tensor(float),) -> ("y": tensor(float),) , Error No Op registered for RMSNormalization with domain_version of 22',
    /a newer one may run RMSNormalization/,
  ],
  ['Fatal error: com.microsoft:MoE(-1) is not a registered function/op', /a newer one may run com\.microsoft:MoE/],
  [
    "[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : Could not find an implementation for RotaryEmbedding(23) node with name 'rope'",
    /a newer one may run RotaryEmbedding\(23\)/,
  ],
  [
    'Unrecognized attribute: qk_norm_epsilon for operator GroupQueryAttention',
    /a newer one may run GroupQueryAttention/,
  ],
  [
    "A float32 tensor's data must be type of function Float32Array() { [native code] }",
    /test runner.*createNodeEngine/,
  ],
];

it.each(REFUSALS)('explains: %s', (message, expected) => {
  expect(explainRefusal(message, '1.21.0')).toMatch(expected);
});

it('returns undefined for a message that needs no explanation', () => {
  expect(explainRefusal('Failed to load model because protobuf parsing failed.', '1.21.0')).toBeUndefined();
});
