import type { OrtModule } from '../../runtime/ort-module.js';

/** Where ONNX Runtime Web comes from, and how it runs; a worker sees nothing of what its page sets in `ort.env`. */
export interface WebRuntime {
  /** Address of ONNX Runtime Web's module, for workers that no bundler built. Default: `onnxruntime-web`, as the bundler finds it. */
  readonly url?: string | undefined;
  /** Threads of WebAssembly, at least 1. Default: half the cores, 4 at most; 1 where the page is not cross-origin isolated. */
  readonly numThreads?: number | undefined;
  /** Where ONNX Runtime's `.wasm` files lie, ending in `/`. Default: next to its module. */
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

/** How this page has set up ONNX Runtime Web, for a worker of it. Where the page lacks it, its worker says so. */
export async function readPageRuntime(): Promise<WebRuntime> {
  const { wasm } = await import('onnxruntime-web').then(
    ({ env }) => env,
    () => ({ wasm: {} as { readonly numThreads?: number; readonly wasmPaths?: unknown } }),
  );
  const wasmPaths = typeof wasm.wasmPaths === 'string' ? wasm.wasmPaths : undefined;
  return { url: mappedAddress(), numThreads: wasm.numThreads, wasmPaths };
}

/** Where the page's import map has ONNX Runtime Web; workers see none. */
function mappedAddress(): string | undefined {
  for (const { textContent } of Array.from(document.querySelectorAll('script[type=importmap]'))) {
    const address = readImports(textContent ?? '')['onnxruntime-web'];
    if (address !== undefined) return new URL(address, document.baseURI).href;
  }
  return undefined;
}

/** Nothing for what is not a map: browsers leave it aside too. */
function readImports(text: string): Readonly<Record<string, string>> {
  try {
    return (JSON.parse(text) as { readonly imports?: Record<string, string> }).imports ?? {};
  } catch {
    return {};
  }
}
