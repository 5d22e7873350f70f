import type { OrtModule } from '../../runtime/ort-module.js';

/** Where ONNX Runtime Web comes from, and how it runs; a worker sees nothing of what its page sets in `ort.env`. */
export interface WebRuntime {
  /** Address of ONNX Runtime Web's module, for workers that no bundler built. Default: `onnxruntime-web`, as the bundler finds it. */
  readonly url?: string | undefined;
  /** Threads of WebAssembly, at least 1. Default: half the cores, 4 at most; 1 where the page is not cross-origin isolated. */
  readonly numThreads?: number | undefined;
  /** Where ONNX Runtime's `.wasm` files lie, ending in `/`. Default: beside its module. */
  readonly wasmPaths?: string | undefined;
}

/** Loads ONNX Runtime Web as it is asked for. */
export async function loadWebRuntime({ url, numThreads, wasmPaths }: WebRuntime): Promise<OrtModule> {
  const ort = await (url === undefined
    ? import('onnxruntime-web')
    : import(/* @vite-ignore */ /* webpackIgnore: true */ url));
  const { wasm } = ort.env;
  if (numThreads !== undefined) wasm.numThreads = numThreads;
  if (wasmPaths !== undefined) wasm.wasmPaths = wasmPaths;
  return ort as OrtModule;
}

/** How this page has set up ONNX Runtime Web, for a worker of it. */
export async function readPageRuntime(): Promise<WebRuntime> {
  const { wasm } = (await import('onnxruntime-web')).env;
  const { numThreads } = wasm;
  const wasmPaths = typeof wasm.wasmPaths === 'string' ? wasm.wasmPaths : undefined;
  return { url: mappedAddress(), numThreads, wasmPaths };
}

/** Where the page's import map has ONNX Runtime Web; workers see none. */
function mappedAddress(): string | undefined {
  try {
    return import.meta.resolve?.('onnxruntime-web');
  } catch {
    return undefined;
  }
}
