import { parseModelId } from '../../src/options/model-id.js';
import { isPlainPath } from '../../src/storage/hub-client.js';

describe('parseModelId', () => {
  it.each([
    ['org/name', { repo: 'org/name', revision: 'main', dtype: undefined }],
    ['Org-1/a.b_c-2', { repo: 'Org-1/a.b_c-2', revision: 'main', dtype: undefined }],
    ['org/name@v1.0', { repo: 'org/name', revision: 'v1.0', dtype: undefined }],
    ['org/name@refs/pr/3:q4f16', { repo: 'org/name', revision: 'refs/pr/3', dtype: 'q4f16' }],
    ['org/name:fp32', { repo: 'org/name', revision: 'main', dtype: 'fp32' }],
  ])('parses %s', (text, id) => expect(parseModelId(text)).toEqual(id));

  it.each([
    ...['name', 'a/b/c', './a/b', '../a', 'a/..', '/a/b', '~/a', 'C:/models', 'C:\\models', 'a\\b', ''],
    ...['org/model.onnx', 'org/name.git', 'org/a--b', 'org/a..b', '-org/name', 'org/name-', `org/${'n'.repeat(97)}`],
    ...['org/name@', 'org/name@../x', 'org/name@a..b', 'org/name@/etc', 'org/name:q5', 'org/name:', 'org/na me'],
  ])('returns undefined for %s', (text) => expect(parseModelId(text)).toBeUndefined());
});

describe('isPlainPath', () => {
  it.each(['config.json', 'onnx/model.onnx_data_1', '.gitattributes', 'a b/c(1).json', 'ünï.json'])(
    'accepts %s',
    (path) => expect(isPlainPath(path)).toBe(true),
  );

  it.each([
    ...[
      '../config.json',
      'a/../../b',
      '/etc/passwd',
      'C:/a',
      'a//b',
      './a',
      'a\\b',
      '',
      'a\0b',
      'a\u001b[2J',
      'a\u202eb',
    ],
    ...['con', 'onnx/NUL.json', 'com1.onnx', 'a:stream', 'what?', 'dot.', 'space ', 'n'.repeat(201)],
  ])('refuses %j', (path) => expect(isPlainPath(path)).toBe(false));
});
