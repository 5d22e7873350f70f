import { appendFileSync, readdirSync, readFileSync } from 'node:fs';
import { relative } from 'node:path';
import { createContext } from 'node:vm';
import { ModernFakeTimers } from '@jest/fake-timers';
import { ModuleMocker } from 'jest-mock';

/** Where jest-circus collects its handlers of events. */
const EVENT_HANDLERS = Symbol.for('EVENT_HANDLERS');

/** The process itself as the environment of tests; files of one worker share its modules. See `node-runner.mjs`. */
export default class NodeEnvironment {
  global = globalThis;
  fakeTimers = null;

  constructor({ projectConfig }, { testPath }) {
    this.file = relative(projectConfig.rootDir, testPath);
    // Jest replaces them for each file.
    const { exit, getBuiltinModule } = process;
    this.replaced = { exit, getBuiltinModule, console: globalThis.console, handlers: globalThis[EVENT_HANDLERS] };
    delete globalThis[EVENT_HANDLERS];
    this.moduleMocker = new ModuleMocker(globalThis);
    this.fakeTimersModern = new ModernFakeTimers({ config: projectConfig, global: globalThis });
  }

  async setup() {
    // Node.js itself maps stacks back to the source.
    delete Error.prepareStackTrace;
    // Jest's gives the modules of its `vm` context.
    process.getBuiltinModule = this.replaced.getBuiltinModule;
    const { moduleMocker: mocker, fakeTimersModern: timers } = this;
    globalThis.jest = {
      fn: mocker.fn.bind(mocker),
      spyOn: mocker.spyOn.bind(mocker),
      restoreAllMocks: () => mocker.restoreAllMocks(),
      useFakeTimers: (options) => timers.useFakeTimers(options),
      useRealTimers: () => timers.useRealTimers(),
      advanceTimersByTime: (ms) => timers.advanceTimersByTime(ms),
      advanceTimersByTimeAsync: (ms) => timers.advanceTimersByTimeAsync(ms),
    };
  }

  /** Writes the processor seconds of each test, and of the file, where `CPU_TIMES` names a file for them. */
  handleTestEvent({ name, test }) {
    if (name === 'setup') compareBytesFirst(globalThis);
    if (LOG === undefined) return;
    if (name === 'setup') this.began = cpuSeconds();
    if (name === 'test_start') this.testBegan = cpuSeconds();
    if (name === 'test_done') log(this.file, test.name, cpuSeconds() - this.testBegan);
    if (name === 'teardown') log(this.file, '(all)', cpuSeconds() - this.began);
  }

  async teardown() {
    this.moduleMocker.restoreAllMocks();
    this.fakeTimersModern.dispose();
    process.exit = this.replaced.exit;
    globalThis.console = this.replaced.console;
    globalThis[EVENT_HANDLERS] = this.replaced.handlers;
  }

  exportConditions() {
    return ['node', 'node-addons'];
  }

  /** Jest asks for one; no test runs in it. */
  getVmContext() {
    return createContext();
  }
}

/** `expect` compares element by element: a second for a file of one megabyte. Files of one worker share it. */
function compareBytesFirst(global) {
  if (global[COMPARED]) return;
  global[COMPARED] = true;
  global.expect.addEqualityTesters([hasSameBytes]);
}

const COMPARED = Symbol('compares bytes first');

/** True for typed arrays of one kind with the same bytes; undefined leaves the decision to `expect`. */
function hasSameBytes(one, other) {
  if (!(one instanceof TypedArray && other instanceof TypedArray) || one.constructor !== other.constructor) return;
  return bytesOf(one).equals(bytesOf(other)) ? true : undefined;
}

const TypedArray = Object.getPrototypeOf(Uint8Array);

const bytesOf = ({ buffer, byteOffset, byteLength }) => Buffer.from(buffer, byteOffset, byteLength);

const LOG = process.env.CPU_TIMES;

const log = (file, test, seconds) => appendFileSync(LOG, `${seconds.toFixed(2)}\t${file}\t${test}\n`);

/** Of this process, of the children that it has waited for, and of those that run, such as a browser. */
function cpuSeconds() {
  const { user, system } = process.cpuUsage();
  const running = readdirSync('/proc').flatMap((pid) => (/^\d+$/.test(pid) ? readTimes(pid) : []));
  const seconds = (pid) =>
    running.reduce(
      (sum, child) => (child.parent === pid ? sum + child.own + child.waited + seconds(child.pid) : sum),
      0,
    );
  return (user + system) / 1e6 + readTimes(process.pid)[0].waited + seconds(process.pid);
}

function readTimes(pid) {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ').map(Number);
    // Ticks of 10 ms.
    const [own, waited] = [(fields[11] + fields[12]) / 100, (fields[13] + fields[14]) / 100];
    return [{ pid: Number(pid), parent: fields[1], own, waited }];
  } catch {
    return [];
  }
}
