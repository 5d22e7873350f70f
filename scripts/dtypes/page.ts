/** What the page of `open-in-chromium.ts` runs: transformers.js as a bundler hands it to browsers, on files of its own server. */
import * as transformers from '@huggingface/transformers';
import { type OpenRequest, openInTransformers } from './open-in-transformers.js';

const { env } = transformers;
env.allowRemoteModels = false;
env.allowLocalModels = true;
env.localModelPath = '/models/';
// Results follow each other under one name.
env.useBrowserCache = false;
env.useWasmCache = false;
env.backends.onnx.wasm!.wasmPaths = '/runtime/';

/** What the adapter cannot do, or undefined. */
async function lackOf(needsHalves: boolean): Promise<string | undefined> {
  const gpu = (navigator as unknown as { readonly gpu?: { requestAdapter(): Promise<Adapter | null> } }).gpu;
  const adapter = await gpu?.requestAdapter();
  if (!adapter) return 'there is no WebGPU';
  return needsHalves && !adapter.features.has('shader-f16') ? 'its WebGPU has no half precision' : undefined;
}

interface Adapter {
  readonly features: ReadonlySet<string>;
}

Object.assign(globalThis, {
  lackOf,
  openFolder: (request: OpenRequest) => openInTransformers(transformers, request),
  isReady: true,
});
