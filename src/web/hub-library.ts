/// <reference path="./hub-browser.d.ts" />
/**
 * The browser build of the Hub's client, bundled directly: its package names it in a field that esbuild does not read,
 * and the default build imports Node.js modules.
 */
export { listFiles, modelInfo } from '../../node_modules/@huggingface/hub/dist/browser/index.mjs';
