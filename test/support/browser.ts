import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { type Browser, type BrowserContext, chromium, type LaunchOptions, type Page } from 'playwright-core';

const PACKAGE = 'node_modules/@sparticuz/chromium/package.json';
const { version } = JSON.parse(readFileSync(PACKAGE, 'utf8')) as { version: string };

/** Unpacked once a checkout: packed it is an npm package, unpacked 200 MB. */
const FOLDER = resolve('node_modules/.cache', `chromium-${version}`);

/** Flags for a WebGPU that runs on the processor. */
export const SOFTWARE_WEBGPU = ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'];

export const NO_GPU: readonly string[] = ['--disable-gpu'];

/**
 * Compiles and checks functions of WebAssembly when they are called first, by V8's baseline compiler: most of ONNX Runtime's 25 MB
 * never runs. To check all of it takes a third of the processor time of a worker's start, to optimise it more than the start.
 */
export const BASELINE_WASM = '--js-flags=--liftoff-only --wasm-lazy-validation';

/** Starts the Chromium that comes as an npm package: nothing is downloaded but by npm. */
export const launchChromium = (flags: readonly string[] = NO_GPU): Promise<Browser> =>
  starting(flags, (options) => chromium.launch(options));

/** Starts Chromium with a profile in a folder: private file systems are on disk, otherwise in memory with little room. */
export const launchWithProfile = (folder: string, flags: readonly string[] = NO_GPU): Promise<BrowserContext> =>
  starting(flags, (options) => chromium.launchPersistentContext(folder, options));

async function starting<T>(flags: readonly string[], launch: (options: LaunchOptions) => Promise<T>): Promise<T> {
  if (!existsSync(FOLDER)) unpack();
  const options = { executablePath: join(FOLDER, 'chromium'), args: ['--no-sandbox', ...flags] };
  try {
    return await launch(options);
  } catch (error) {
    // Bare machines lack NSS, which the package brings for them.
    const libraries = join(FOLDER, 'al2023/lib');
    if (!String(error).includes('shared libraries')) throw error;
    return launch({ ...options, env: { ...process.env, LD_LIBRARY_PATH: libraries } as Record<string, string> });
  }
}

/** Watches the tasks of a page's main thread. @returns a function that stops it and returns the longest processor time, in ms */
export async function watchMainThread(browser: Browser, page: Page): Promise<() => Promise<number>> {
  const categories = ['disabled-by-default-devtools.timeline', 'blink.user_timing', '__metadata'];
  await browser.startTracing(page, { categories });
  return async () => {
    await page.evaluate((end) => void performance.mark(end), END);
    // Tasks reach the trace a while after they end.
    await page.waitForTimeout(500);
    const { traceEvents } = JSON.parse((await browser.stopTracing()).toString()) as {
      traceEvents: readonly TraceEvent[];
    };
    if (traceEvents.every(({ name }) => name !== END)) throw new Error('the trace was full before its end');
    const threads = traceEvents.filter(({ name, args }) => name === 'thread_name' && args.name === 'CrRendererMain');
    const isMain = ({ pid, tid }: TraceEvent) => threads.some((thread) => thread.pid === pid && thread.tid === tid);
    const tasks = traceEvents.filter((event) => event.name === 'RunTask' && isMain(event));
    // Under load traces have tasks of a microsecond that took the processor for tenths of a second.
    return tasks.reduce((longest, { tdur = 0, dur = 0 }) => Math.max(longest, Math.min(tdur, dur)), 0) / 1000;
  };
}

/** Mark that a trace ends with. */
const END = 'end of the trace';

interface TraceEvent {
  readonly name: string;
  readonly pid: number;
  readonly tid: number;
  readonly args: { readonly name?: string };
  /** In microseconds, by the clock and of the processor. */
  readonly dur?: number;
  readonly tdur?: number;
}

/** Unpacks in a separate process, since the package unpacks to the temporary folder that is set when it starts. */
function unpack(): void {
  mkdirSync(resolve('node_modules/.cache'), { recursive: true });
  const staging = mkdtempSync(`${FOLDER}-`);
  const code = "import chromium from '@sparticuz/chromium'; await chromium.executablePath();";
  const env = { ...process.env, TMPDIR: staging, AWS_LAMBDA_JS_RUNTIME: 'nodejs20.x' };
  execFileSync('node', ['--input-type=module', '--eval', code], { env });
  try {
    renameSync(staging, FOLDER);
  } catch (error) {
    // Another run was faster.
    rmSync(staging, { recursive: true });
    if (!existsSync(FOLDER)) throw error;
  }
}
