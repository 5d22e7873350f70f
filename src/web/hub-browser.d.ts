/** The build for browsers has no typings of its own. */
declare module '*/@huggingface/hub/dist/browser/index.mjs' {
  export { listFiles, modelInfo } from '@huggingface/hub';
}
