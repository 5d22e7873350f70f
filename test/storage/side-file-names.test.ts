import { filesOfGenai } from '../../src/storage/genai-files.js';
import { isPart, isSideFile } from '../../src/storage/side-file-names.js';
import { PRIVATE_FILES, SIDE_FILES } from '../support/home-folder.js';

it.each(SIDE_FILES)('recognises %s, which a runtime reads', (path) => {
  expect(isSideFile(path) || isPart(path)).toBe(true);
});

it.each(PRIVATE_FILES)('does not recognise %s', (path) => {
  expect(isSideFile(path) || isPart(path)).toBe(false);
});

test('ignores file names in genai_config.json under names of object properties', () => {
  const hostile = JSON.parse(
    '{"constructor": "a.onnx", "toString": "b.onnx", "__proto__": "c.onnx", "filename": "d.onnx"}',
  );
  expect(filesOfGenai(hostile)).toEqual(['d.onnx']);
});

it.each([
  ['./parts//vision.onnx', ['parts/vision.onnx']],
  ['../other/vision.onnx', []],
  ['/home/me/vision.onnx', []],
  ['C:\\vision.onnx', []],
  ['vision.pem', []],
])('finds %s in genai_config.json only inside the folder', (filename, found) => {
  expect(filesOfGenai({ vision: { filename } })).toEqual(found);
});
