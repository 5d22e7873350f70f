import type { OrtModule } from '../runtime/ort-module.js';

/** Settings of ONNX Runtime Web; workers do not see the page's `ort.env`. */
export interface WebRuntime {
  /** Address of ONNX Runtime Web's module, for workers without a bundler. Default: `onnxruntime-web` by the bundler. */
  readonly url?: string | undefined;
  /** Threads of WebAssembly, at least 1. Default: half the cores, 4 at most; 1 if the page is not cross-origin isolated. */
  readonly numThreads?: number | undefined;
  /** Address of the folder with ONNX Runtime's `.wasm` files, ending in `/`. Default: next to its module. */
  readonly wasmPaths?: string | undefined;
}

/** Loads and configures ONNX Runtime Web. */
export async function loadWebRuntime({ url, numThreads, wasmPaths }: WebRuntime): Promise<OrtModule> {
  const ort = await (url === undefined
    ? import('onnxruntime-web')
    : import(/* @vite-ignore */ /* webpackIgnore: true */ url));
  const { wasm } = ort.env;
  if (numThreads !== undefined) wasm.numThreads = numThreads;
  if (wasmPaths !== undefined) wasm.wasmPaths = wasmPaths;
  return ort as OrtModule;
}

/** The page's settings of ONNX Runtime Web, for its workers. If it is missing, the worker reports that. */
export async function readPageRuntime(): Promise<WebRuntime> {
  const { wasm } = await import('onnxruntime-web').then(
    ({ env }) => env,
    () => ({ wasm: {} as { readonly numThreads?: number; readonly wasmPaths?: unknown } }),
  );
  const wasmPaths = typeof wasm.wasmPaths === 'string' ? wasm.wasmPaths : undefined;
  return { url: mappedAddress(), numThreads: wasm.numThreads, wasmPaths };
}

/** Address of ONNX Runtime Web in the page's import map, which workers do not see. */
function mappedAddress(): string | undefined {
  for (const { textContent } of Array.from(document.querySelectorAll('script[type=importmap]'))) {
    const address = readImports(textContent ?? '')['onnxruntime-web'];
    if (address !== undefined) return new URL(address, document.baseURI).href;
  }
  return undefined;
}

/** Imports of an import map; empty if invalid, as browsers ignore it too. */
function readImports(text: string): Readonly<Record<string, string>> {
  try {
    return (JSON.parse(text) as { readonly imports?: Record<string, string> }).imports ?? {};
  } catch {
    return {};
  }
}
