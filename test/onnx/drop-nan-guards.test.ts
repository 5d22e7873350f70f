import { makeNode } from '../../src/onnx/build.js';
import { dropNanGuards } from '../../src/onnx/drop-nan-guards.js';

const isNan = makeNode({ op: 'IsNaN', inputs: ['attention'], outputs: ['broken'] });

function where(condition: string, value: string) {
  return makeNode({ op: 'Where', name: 'guard', inputs: [condition, 'zero', value], outputs: ['safe'] });
}

test('replaces a guard by an Identity of the same name', () => {
  const [first, second] = dropNanGuards([isNan, where('broken', 'attention')]);

  expect(first).toBe(isNan);
  expect(second).toMatchObject({ opType: 'Identity', name: 'guard', input: ['attention'], output: ['safe'] });
});

test.each([
  ['whose condition tests another value', where('broken', 'scores')],
  ['whose condition is a mask', where('mask', 'attention')],
  [
    'that replaces values that are not NaN',
    makeNode({ op: 'Where', inputs: ['broken', 'attention', 'zero'], outputs: ['safe'] }),
  ],
])('keeps a Where %s', (_, node) => {
  expect(dropNanGuards([isNan, node])).toEqual([isNan, node]);
});
