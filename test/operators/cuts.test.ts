import { OPERATORS } from '../../src/operators/table.js';
import { type AxisCut, runCutCheck } from '../support/cut-check.js';
import { CASES } from './cases.js';

/** Oldest opset of models that are pruned. */
const OLDEST_OPSET = 14;

/** Operators that channels pass through, with graphs of this operator only. */
const rows = Object.entries(OPERATORS).flatMap(([name, { axis }]) => {
  const alone = (CASES[name] ?? []).filter(
    ({ nodes, opset }) => nodes.length === 1 && nodes[0]?.outputs[0] === 'y' && (opset ?? OLDEST_OPSET) >= OLDEST_OPSET,
  );
  return typeof axis === 'function' && CASES[name] ? [[name, { axis, alone }] as const] : [];
});

it.each(rows)('%s gives the same output without the removed units', async (name, { axis, alone }) => {
  const cuts: AxisCut[] = [];
  for (const given of alone)
    cuts.push(...(await runCutCheck(given, { rule: axis, headCount: name.includes('Rotary') ? 2 : undefined })));
  expect(cuts.length).toBeGreaterThan(0);
  expect(Math.max(...cuts.map(({ largestGap }) => largestGap))).toBeLessThan(1e-5);
});
