import { boolean } from '../options/kinds.js';
import { type AnyRows, checkOptions, type OptionsOf, pickOptions, row } from '../options/option.js';
import { checkControl } from '../options/run.js';
import { callOn } from '../pipeline/call-on.js';
import {
  type AnswerOf,
  CALLS,
  type CallName,
  type IsolatedCall,
  mapCalls,
  type RequestOf,
} from '../pipeline/call-table.js';
import { nodePlatform } from './node-platform.js';
import { runIsolated } from './run-isolated.js';

const ISOLATE = {
  /**
   * Run the entire call in a separate process with a watchdog: a model that crashes ONNX Runtime, never ends or takes
   * all memory then causes an EngineError. The request must be plain data: no engine, no functions. Default false.
   */
  isolate: row(undefined, 'make the call in a process of its own', { kind: boolean, default: false }),
} as const satisfies AnyRows;

/** Option to isolate a call. */
export interface IsolateOption extends OptionsOf<typeof ISOLATE> {}

/** The calls of Node.js. */
export type NodeCalls = {
  readonly [Call in CallName]: (
    request: Call extends IsolatedCall ? RequestOf<Call> & IsolateOption : RequestOf<Call>,
  ) => Promise<AnswerOf<Call>>;
};

/** The calls, each in this process or, if requested, in a separate one. */
export const nodeCalls = mapCalls<NodeCalls>(
  () => true,
  (call) => (request: RequestOf<typeof call>) => callInNode(call, request),
);

async function callInNode<Call extends CallName>(
  call: Call,
  request: RequestOf<Call> & IsolateOption,
): Promise<AnswerOf<Call>> {
  checkControl(request);
  if (!CALLS[call].isolated) return callOn(nodePlatform, call, request);
  checkOptions(pickOptions(Object(request), ISOLATE), ISOLATE);
  const { isolate = false, ...given } = Object(request);
  return isolate ? runIsolated(call, given) : callOn(nodePlatform, call, given);
}
