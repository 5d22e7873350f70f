import { createContext } from 'node:vm';
import { ModernFakeTimers } from '@jest/fake-timers';
import { ModuleMocker } from 'jest-mock';

/** Where jest-circus collects its handlers of events. */
const EVENT_HANDLERS = Symbol.for('EVENT_HANDLERS');

/** The process itself as the environment of tests; files of one worker share its modules. See `node-runner.mjs`. */
export default class NodeEnvironment {
  global = globalThis;
  fakeTimers = null;

  constructor({ projectConfig }) {
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
