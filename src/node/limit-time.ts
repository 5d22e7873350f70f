import { createContext, Script } from 'node:vm';
import type { LimitTime } from '../calibration/tokenizer.js';
import { EngineError } from '../errors.js';
import { threadProcessorMs } from './processor-time.js';

/** An action with less than this fraction of processor time is retried: the machine was busy. */
const MIN_SHARE = 0.5;

/** Growth of the wall-time limit at each retry. */
const [MIN_GROWTH, MAX_GROWTH] = [2, 16] as const;

/**
 * Creates a `LimitTime` with V8's timeout of scripts, which also interrupts regular expressions. V8 limits wall time,
 * so processor time decides whether a timeout counts. A call costs about 0.05 ms.
 * @param processorMs processor time of this thread so far
 */
export function createTimeLimit(processorMs = threadProcessorMs): LimitTime {
  const script = new Script('action()');
  let context: { action?: () => unknown } | undefined;
  return (action, ms) => {
    context ??= createContext({});
    let clockMs = Math.max(1, Math.ceil(ms));
    for (let attempt = 0; ; attempt++) {
      const start = processorMs();
      context.action = () => action(attempt);
      try {
        const value = script.runInContext(context, { timeout: clockMs }) as ReturnType<typeof action>;
        return { value, ms: processorMs() - start };
      } catch (cause) {
        if (Object(cause).code !== 'ERR_SCRIPT_EXECUTION_TIMEOUT') throw cause;
        const usedMs = processorMs() - start;
        if (usedMs >= MIN_SHARE * ms)
          throw new EngineError(`it took more than ${Math.ceil(ms / 1000)} s and was stopped`, { cause });
        clockMs = Math.ceil(clockMs * Math.min(MAX_GROWTH, Math.max(MIN_GROWTH, ms / usedMs)));
      } finally {
        delete context.action;
      }
    }
  };
}
