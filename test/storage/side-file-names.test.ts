import { isPart, isSideFile } from '../../src/storage/side-file-names.js';
import { PRIVATE_FILES, SIDE_FILES } from '../support/home-folder.js';

it.each(SIDE_FILES)('knows %s, which a runtime reads', (path) => {
  expect(isSideFile(path) || isPart(path)).toBe(true);
});

it.each(PRIVATE_FILES)('does not know %s', (path) => {
  expect(isSideFile(path) || isPart(path)).toBe(false);
});
