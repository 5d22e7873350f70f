import { boolean } from '../options/kinds.js';
import { type AnyRows, checkOptions, type OptionsOf, pickOptions, row } from '../options/option.js';
import { checkControl } from '../options/run.js';
import {
  type AnswerOf,
  CALLS,
  type CallName,
  type IsolatedCall,
  mapCalls,
  type RequestOf,
} from '../pipeline/call-table.js';
import { nodePlatform } from '../platform/node/node-platform.js';
import { callOn } from '../remote/call-on.js';
import { runIsolated } from './run-isolated.js';

const ISOLATE = {
  /**
   * Make the entire call in a process of its own, under a watchdog: a model that ends ONNX Runtime's process, runs for ever or
   * takes all memory then ends in an EngineError. Such a call takes plain data alone: no engine, no functions. Default false.
   */
  isolate: row(undefined, 'make the call in a process of its own', { kind: boolean, default: false }),
} as const satisfies AnyRows;

/** Where a call works. */
export interface IsolateOption extends OptionsOf<typeof ISOLATE> {}

/** The calls of Node.js. */
export type NodeCalls = {
  readonly [Call in CallName]: (
    request: Call extends IsolatedCall ? RequestOf<Call> & IsolateOption : RequestOf<Call>,
  ) => Promise<AnswerOf<Call>>;
};

/** Each call in this process, or in one of its own where the request asks for it. */
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
