import { readFileSync } from 'node:fs';
import { VERSION } from '../src/version.js';

it('is the version in package.json', () => {
  expect(VERSION).toBe(JSON.parse(readFileSync('package.json', 'utf8')).version);
});

it('is the version that is cited', () => {
  expect(readFileSync('CITATION.cff', 'utf8')).toMatch(new RegExp(`^version: ${VERSION.replaceAll('.', '\\.')}$`, 'm'));
});
