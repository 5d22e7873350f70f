import { analyseModel } from '../../src/runtime/analyse-model.js';
import { testEngine } from '../support/engine.js';
import { buildDecoder, HIDDEN, type Part } from '../support/small-decoder.js';
import { loadTinyLlama } from '../support/tiny-llama.js';

it('gives casts and unpacked codes of large weights their own data type', async () => {
  const values: Record<string, number> = {};
  const ffn: Part = ({ g }, x) => {
    const half = g.op('Cast', [g.weight([HIDDEN, HIDDEN])], { to: 10 });
    const single = g.op('Cast', [half], { to: 1 });
    const turned = g.op('Transpose', [half], { perm: [1, 0] });
    const unpacked = g.op('DequantizeLinear', [g.codes([HIDDEN, HIDDEN]), g.scalar(0.01)]);
    Object.assign(values, { [half]: 10, [single]: 1, [turned]: 10, [unpacked]: 1 });
    const product = g.op('MatMul', [g.op('Cast', [x], { to: 10 }), turned]);
    const weight = g.op('Add', [single, unpacked]);
    return g.op('Add', [g.op('Cast', [product], { to: 1 }), g.op('MatMul', [x, weight])]);
  };
  const { model } = await loadTinyLlama(buildDecoder({ ffn }));
  const { facts } = await analyseModel(model, testEngine);
  for (const [value, dataType] of Object.entries(values))
    expect(facts.first.get(value)).toMatchObject({ dims: [HIDDEN, HIDDEN], dataType });
});
