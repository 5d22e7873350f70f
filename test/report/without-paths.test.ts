import { withoutPaths } from '../../src/report/without-paths.js';

it('shortens absolute paths to the last parts that distinguish them', () => {
  const given = {
    model: '/home/me/secret/dense',
    out: '/home/me/other/dense/',
    texts: ['/data/a.txt', 'C:\\Users\\me\\b.txt', '../up/c.txt', 'here/d.txt', 'org/name'],
    schema: 'fang-prune-report/1',
    unit: 'tokens/s',
    root: '/',
  };
  expect(withoutPaths(given)).toEqual({
    model: 'secret/dense',
    out: 'other/dense',
    texts: ['a.txt', 'b.txt', 'c.txt', 'here/d.txt', 'org/name'],
    schema: 'fang-prune-report/1',
    unit: 'tokens/s',
    root: '/',
  });
});

it('shortens paths in sentences, but not names of nodes and quoted text', () => {
  const given = {
    model: '/models/dense',
    metrics: [{ name: 'divergence (KL), /texts/a.txt' }, { name: '/texts/a.txt, acc' }],
    remarks: [
      'resumed from checkpoints of an interrupted run in /models/out.partial',
      '/model/layers.0/MatMul stays: Load model from /models/dense/onnx/model.onnx failed',
      'see /home/me/x/y.json',
      'see /current/models/z',
    ],
    examples: [{ before: '/models/dense' }],
  };
  expect(withoutPaths(given, { paths: ['/texts/a.txt'], folders: ['/current'] })).toEqual({
    model: 'dense',
    metrics: [{ name: 'divergence (KL), a.txt' }, { name: 'a.txt, acc' }],
    remarks: [
      'resumed from checkpoints of an interrupted run in out.partial',
      '/model/layers.0/MatMul stays: Load model from dense/onnx/model.onnx failed',
      'see y.json',
      'see models/z',
    ],
    examples: [{ before: '/models/dense' }],
  });
});

it('changes nothing the second time', () => {
  const once = withoutPaths({ model: '/a/m', out: '/b/m', text: '/a/t.txt' });
  expect(withoutPaths(once)).toEqual(once);
});

it('shortens a path of 10 MB', () => {
  const path = `/home/me/${'x'.repeat(1e7)}.txt`;
  expect(withoutPaths({ path, note: `of ${path}` })).toEqual({ path: path.slice(9), note: `of ${path.slice(9)}` });
});
