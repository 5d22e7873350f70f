import { UnsupportedModelError } from '../../src/errors.js';
import { refuseBackwards } from '../../src/prune/measure-dense/refuse-backwards.js';
import { buildDecoder, HIDDEN, linear, NEURONS, type Part } from '../support/small-decoder.js';
import { type Loaded, loadTinyLlama } from '../support/tiny-llama.js';

/** An FFN whose activation has no gradient rule. */
const strange: Part = ({ g }, x) => linear(g, g.op('Softsign', [linear(g, x, HIDDEN, NEURONS)]), NEURONS, HIDDEN);

const refusing =
  ({ model, analysed }: Loaded) =>
  () =>
    refuseBackwards(model, analysed, analysed.detected.layout.modules);

it('lets a model pass whose operators all have gradients', async () => {
  expect(refusing(await loadTinyLlama(buildDecoder()))).not.toThrow();
});

it('names the operator without a gradient rule', async () => {
  const loaded = await loadTinyLlama(buildDecoder({ ffn: strange }));
  expect(refusing(loaded)).toThrow(UnsupportedModelError);
  expect(refusing(loaded)).toThrow(/No gradient rule for operator Softsign "node/);
});

it('says that the loss needs logits of every token', async () => {
  const takeLast: NonNullable<Parameters<typeof buildDecoder>[0]>['takeLast'] = (g, x) =>
    g.op('ReduceMean', [x], { axes: [1], keepdims: 1 });
  const loaded = await loadTinyLlama(buildDecoder({ takeLast }));
  expect(refusing(loaded)).toThrow(UnsupportedModelError);
  expect(refusing(loaded)).toThrow(/"logits" has dims \[2,1,40\] for tokens \[2,3\].*the loss is not known/);
});
