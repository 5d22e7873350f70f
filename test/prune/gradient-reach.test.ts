import { findGradientReach } from '../../src/prune/measure-dense/gradient-reach.js';
import { buildDecoder, HIDDEN, linear, NEURONS, type Part, plainFfn, selfAttention } from '../support/small-decoder.js';
import { type Loaded, loadTinyLlama } from '../support/tiny-llama.js';

/** An FFN whose activation has no gradient rule. */
const strange: Part = ({ g }, x) => linear(g, g.op('Softsign', [linear(g, x, HIDDEN, NEURONS)]), NEURONS, HIDDEN);

/** Modules without a gradient at their output, by block and kind, and why. */
function unreached({ model, analysed }: Loaded): readonly (readonly [string, string])[] {
  const reach = findGradientReach(model, analysed);
  return analysed.detected.layout.modules.flatMap(({ block, kind, output }) => {
    const obstacle = reach.obstacleOf(output.result);
    return obstacle === undefined ? [] : [[`${block} ${kind}`, obstacle.message] as const];
  });
}

const NAMED = /^No gradient rule for operator Softsign "node/;

it('reaches all modules where all operators have gradients', async () => {
  expect(unreached(await loadTinyLlama(buildDecoder()))).toEqual([]);
});

it('ends at an FFN whose activation has no gradient, and names the operator', async () => {
  const ffn: Part = (site, x) => (site.block === 1 ? strange : plainFfn)(site, x);
  const found = unreached(await loadTinyLlama(buildDecoder({ blockCount: 3, ffn })));
  // The output of that FFN itself lies behind its activation.
  expect(found).toEqual(['0 attention', '0 ffn', '1 attention'].map((name) => [name, expect.stringMatching(NAMED)]));
});

it('passes an attention by whose output nothing else reads', async () => {
  const attention: Part = (site, x) => {
    const mixed = selfAttention()(site, x);
    site.g.op('Softsign', [mixed]);
    return mixed;
  };
  expect(unreached(await loadTinyLlama(buildDecoder({ attention })))).toEqual([]);
});

it('reaches nothing where the loss needs logits of every token', async () => {
  const takeLast: NonNullable<Parameters<typeof buildDecoder>[0]>['takeLast'] = (g, x) =>
    g.op('ReduceMean', [x], { axes: [1], keepdims: 1 });
  const found = unreached(await loadTinyLlama(buildDecoder({ takeLast })));
  expect(found).toHaveLength(4);
  expect(found[0]![1]).toMatch(/"logits" has dims \[2,1,40\] for tokens \[2,3\].*which the loss needs/);
});
