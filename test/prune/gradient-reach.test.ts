import { findGradientReach } from '../../src/prune/measure-dense/gradient-reach.js';
import { buildDecoder, HIDDEN, linear, NEURONS, type Part, plainFfn, selfAttention } from '../support/small-decoder.js';
import { type Loaded, loadTinyLlama } from '../support/tiny-llama.js';

/** An FFN whose activation has no gradient rule. */
const withoutGradient: Part = ({ g }, x) =>
  linear(g, g.op('Softsign', [linear(g, x, HIDDEN, NEURONS)]), NEURONS, HIDDEN);

/** Modules without a gradient at their output, by block and kind, and why. */
function unreached({ model, analysed }: Loaded): readonly (readonly [string, string])[] {
  const reach = findGradientReach(model, analysed);
  return analysed.detected.layout.modules.flatMap(({ block, kind, output }) => {
    const obstacle = reach.obstacleOf(output.result);
    return obstacle === undefined ? [] : [[`${block} ${kind}`, obstacle.message] as const];
  });
}

const NAMED = /^No gradient rule for operator Softsign "node/;

it('reaches all modules if all operators have gradients', async () => {
  expect(unreached(await loadTinyLlama(buildDecoder()))).toEqual([]);
});

it('stops at an FFN whose activation has no gradient, and names the operator', async () => {
  const ffn: Part = (site, x) => (site.block === 1 ? withoutGradient : plainFfn)(site, x);
  const found = unreached(await loadTinyLlama(buildDecoder({ blockCount: 3, ffn })));
  // The output of that FFN comes after its activation.
  expect(found).toEqual(['0 attention', '0 ffn', '1 attention'].map((name) => [name, expect.stringMatching(NAMED)]));
});

it('ignores an operator whose output is not used', async () => {
  const attention: Part = (site, x) => {
    const mixed = selfAttention()(site, x);
    site.g.op('Softsign', [mixed]);
    return mixed;
  };
  expect(unreached(await loadTinyLlama(buildDecoder({ attention })))).toEqual([]);
});

it('reaches no module if the model outputs logits of one position only', async () => {
  const takeLast: NonNullable<Parameters<typeof buildDecoder>[0]>['takeLast'] = (g, x) =>
    g.op('ReduceMean', [x], { axes: [1], keepdims: 1 });
  const found = unreached(await loadTinyLlama(buildDecoder({ takeLast })));
  expect(found).toHaveLength(4);
  expect(found[0]![1]).toMatch(/"logits" has dims \[2,1,40\] for tokens \[2,3\].*which the loss needs/);
});
