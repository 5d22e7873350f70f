import { availableParallelism } from 'node:os';
import { EngineError, OptionError } from '../errors.js';
import type { Engine } from '../runtime/engine.js';
import { createOrtEngine, type OrtEngineOptions } from '../runtime/ort-engine.js';
import { checkOwnEngine, DEFAULT_THREADS, type EngineChoice } from '../runtime/platform.js';
import { tryEngine } from '../runtime/try-engine.js';
import { loadNative, loadWasm, type MissingRuntime } from './node-runtime.js';

/**
 * Creates an engine of onnxruntime-node on the first working provider (later ones are ONNX Runtime's fallbacks for
 * single operators), or of onnxruntime-web if onnxruntime-node is not installed. A given engine is returned.
 * @throws OptionError for an unknown provider, or when both are given. @throws EngineError when none of the providers
 *   starts.
 */
export async function createNodeEngine(choice: EngineChoice = {}): Promise<Engine> {
  checkOwnEngine(choice);
  if (choice.engine !== undefined) return choice.engine;
  const { executionProvider } = choice;
  const threads = resolveThreads(choice.threads);
  const wanted = [executionProvider ?? 'cpu'].flat();
  const native = wanted.every((name) => name === WASM) ? undefined : loadNative();
  const missing = native !== undefined && 'failure' in native ? native : undefined;
  const ort = native === undefined || 'failure' in native ? undefined : native;
  const known = [...(ort?.listSupportedBackends().map(({ name }) => name) ?? ['cpu']), WASM];
  const unknown = wanted.find((name) => !known.includes(name));
  if (unknown !== undefined || wanted.length === 0) {
    throw new OptionError(
      `execution provider "${unknown ?? ''}" is unknown; this build has ${known.join(', ')}` +
        (missing === undefined ? '' : `. ${explain(missing)}`),
    );
  }
  const failures: string[] = [];
  for (const [at, provider] of wanted.entries()) {
    if (provider === WASM || ort === undefined) {
      if (choice.threads !== undefined)
        throw new OptionError('threads is given, but graphs run in wasm: set ort.env.wasm.numThreads instead', {
          option: 'threads',
        });
      return createWasmEngine(provider === WASM ? undefined : missing);
    }
    const executionProviders = wanted.slice(at).filter((name) => name !== WASM);
    const engine = createOrtEngine(ort, { executionProviders, ...threads });
    const failure =
      provider === 'cpu' ? undefined : await tryEngine(createOrtEngine(ort, { executionProviders: [provider] }));
    if (failure === undefined) return engine;
    failures.push(`${provider}: ${failure}`);
  }
  throw new EngineError(
    `none of the requested execution providers starts here (${failures.join('; ')}). For CUDA see "Runtimes" in ` +
      'the README; otherwise choose cpu, or a list that ends in cpu',
  );
}

/** Sums are split by threads: the default is independent of the machine, so that results have equal bytes. */
function resolveThreads(threads = DEFAULT_THREADS): Pick<OrtEngineOptions, 'threads' | 'spinning'> {
  if (!Number.isInteger(threads) || threads < 0 || threads > MAX_THREADS)
    throw new OptionError(`threads is ${threads}; expected an integer from 0 to ${MAX_THREADS}`, {
      option: 'threads',
    });
  return { threads, spinning: threads <= availableParallelism() };
}

/** Above the number of cores of any machine; each thread needs a stack. */
const MAX_THREADS = 1024;

/** In Node.js, the execution provider of onnxruntime-web. */
const WASM = 'wasm';

let hasWarned = false;

/** @param missing reason why onnxruntime-node is missing, if it was requested */
function createWasmEngine(missing: MissingRuntime | undefined): Engine {
  const ort = loadWasm(missing);
  if (missing !== undefined && !hasWarned) {
    hasWarned = true;
    process.emitWarning(`graphs run in WebAssembly, which is slower: ${explain(missing)}`, { code: 'FANG_PRUNE_WASM' });
  }
  // onnxruntime-web supports external data only from memory.
  const { loadFile: _, ...engine } = createOrtEngine(ort, { executionProviders: [WASM] });
  return engine;
}

function explain({ failure, remedy }: MissingRuntime): string {
  return `onnxruntime-node cannot be used (${failure}). ${remedy}`;
}
