/// <reference path="./hub-browser.d.ts" />
/**
 * The Hub's client as its authors build it for browsers, which is compiled in: the package names that build in a field which
 * esbuild does not read, and what it names first asks for files of Node.js.
 */
export { listFiles, modelInfo } from '../../../node_modules/@huggingface/hub/dist/browser/index.mjs';
