import { findMeasured, isSameModel } from '../../src/report/find-measured.js';
import { PRUNE_REPORT } from '../support/cli.js';

const find = (model: string, out: string, ...measured: readonly string[]) => {
  const models = measured.map((path) => ({ model: path }));
  const { dense, pruned } = findMeasured({ ...PRUNE_REPORT, model, out }, models, 'eval.json');
  return [dense?.model, pruned.model];
};

it('finds the model with the path of the report before those whose absolute path ends in it', () => {
  expect(find('dense', 'model', '/a/model', '/a/dense', 'model', 'dense')).toEqual(['dense', 'model']);
});

it('finds models whose absolute path ends in the name that a saved report has', () => {
  expect(find('dense', 'out/model', '/a/dense', '/a/out/model')).toEqual(['/a/dense', '/a/out/model']);
});

it('never takes one measured model for both', () => {
  expect(find('model', 'out/model', '/a/out/model', '/a/model')).toEqual(['/a/model', '/a/out/model']);
  expect(find('model', 'out/model', '/a/out/model')).toEqual([undefined, '/a/out/model']);
});

it.each([
  ['./model/', 'model', true],
  ['C:\\models\\small', 'C:/models/small', true],
  ['C:\\models\\small', 'small', true],
  ['/a/my-model', 'model', false],
  ['a/model', 'model', false],
  ['/a/model', '/model', false],
  ['/a/model', undefined, false],
])('whether %s is the %s of a report: %s', (path, name, isSame) => {
  expect(isSameModel(path, name)).toBe(isSame);
});
