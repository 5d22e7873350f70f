import { anyText, arrayOf, choice, findFault, finite, optional, withFields } from '../../src/options/kinds.js';

const KIND = withFields({ name: anyText, models: arrayOf(withFields({ bytes: finite, dtype: optional(anyText) })) });

it.each([
  ['all fields', { name: 'a', models: [{ bytes: 1, dtype: 'q4' }] }],
  ['no optional field, and fields of others', { name: 'a', models: [{ bytes: 1, more: true }], more: 1 }],
  ['an empty list', { name: 'a', models: [] }],
])('finds no fault in %s', (_, value) => {
  expect(findFault(value, KIND)).toBeUndefined();
});

it.each([
  ['a missing field', { models: [] }, 'name', undefined],
  ['a field of another kind', { name: 1, models: [] }, 'name', 1],
  ['an inherited field', Object.create({ name: 'a', models: [] }), 'name', undefined],
  ['an object in place of a list', { name: 'a', models: {} }, 'models', {}],
  ['a field in a list', { name: 'a', models: [{ bytes: 1 }, { bytes: '2' }] }, 'models[1].bytes', '2'],
  ['an optional field of another kind', { name: 'a', models: [{ bytes: 1, dtype: 4 }] }, 'models[0].dtype', 4],
  ['a list in place of an object', [], '', []],
])('finds %s', (_, value, place, found) => {
  expect(findFault(value, KIND)).toMatchObject({ place, value: found });
});

it('names the expected kind', () => {
  expect(findFault({ verdict: 'good' }, withFields({ verdict: choice(['better', 'worse']) }))?.kind.expected).toBe(
    'one of better, worse',
  );
});
