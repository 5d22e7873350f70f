import { filesOfGenai } from '../../src/storage/genai-files.js';
import { isPart, isSideFile } from '../../src/storage/side-file-names.js';
import { PRIVATE_FILES, SIDE_FILES } from '../support/home-folder.js';

it.each(SIDE_FILES)('knows %s, which a runtime reads', (path) => {
  expect(isSideFile(path) || isPart(path)).toBe(true);
});

it.each(PRIVATE_FILES)('does not know %s', (path) => {
  expect(isSideFile(path) || isPart(path)).toBe(false);
});

test('names that genai_config.json gives under the keys of any object are no files', () => {
  const hostile = JSON.parse(
    '{"constructor": "a.onnx", "toString": "b.onnx", "__proto__": "c.onnx", "filename": "d.onnx"}',
  );
  expect(filesOfGenai(hostile)).toEqual(['d.onnx']);
});
