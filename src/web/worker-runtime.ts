import type { OrtModule } from '../runtime/ort-module.js';

/** How a worker runs graphs: what a page sets in `ort.env.wasm` lies in another world. */
export interface WorkerRuntime {
  /** Address of ONNX Runtime Web's module, for workers of no bundler. Default: what the bundler put there. */
  readonly url?: string | undefined;
  /** Threads of WebAssembly, at least 1. Default: half the cores, 4 at most; 1 where the page is not cross-origin isolated. */
  readonly numThreads?: number | undefined;
  /** Where ONNX Runtime's `.wasm` files lie, ending in `/`. Default: beside its module. */
  readonly wasmPaths?: string | undefined;
}

/** Loads ONNX Runtime Web as a page asked for it. */
export async function loadWorkerRuntime({ url, numThreads, wasmPaths }: WorkerRuntime): Promise<OrtModule> {
  const ort = await (url === undefined
    ? import('onnxruntime-web')
    : import(/* @vite-ignore */ /* webpackIgnore: true */ url));
  const { wasm } = ort.env;
  if (numThreads !== undefined) wasm.numThreads = numThreads;
  if (wasmPaths !== undefined) wasm.wasmPaths = wasmPaths;
  return ort as OrtModule;
}
