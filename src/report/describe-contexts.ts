import { sum } from '../linalg/sum.js';
import type { ModuleContexts } from '../prune/measure-dense/dense-measures.js';
import type { ContextExample, ContextReport, ContextToken } from './report-schema.js';

/** Text of token ids. */
export type Decode = (tokens: ArrayLike<number>) => string;

export interface ContextsInput {
  readonly contexts: Pick<ModuleContexts, 'contextCount' | 'contextOfToken' | 'typicalTokens'>;
  /** Calibration windows of equal length. */
  readonly windows: readonly Int32Array[];
  /** Absent: no text is quoted. */
  readonly decode?: Decode | undefined;
}

const EXAMPLE_COUNT = 6;
const TOKEN_COUNT = 8;
/** Rarer tokens are characteristic of the text rather than of the context. */
const MIN_TOKEN_COUNT = 3;
/** Characters quoted on each side, and number of tokens decoded for them. */
const QUOTE = { before: 48, after: 24, tokensBefore: 32, tokensAfter: 16 } as const;

/** Characteristic tokens of the contexts of one FFN, and examples in their text. */
export function describeContexts(input: ContextsInput): ContextReport[] {
  const { contexts, windows, decode } = input;
  const counts = new Int32Array(contexts.contextCount);
  for (const context of contexts.contextOfToken) counts[context]!++;
  if (decode === undefined) return Array.from(counts, (tokenCount) => ({ tokenCount }));
  const characteristic = characteristicTokens(contexts, windows, decode);
  return Array.from(counts, (tokenCount, context) => ({
    tokenCount,
    tokens: characteristic[context]!,
    examples: pickExamples(contexts.typicalTokens[context]!, windows, decode),
  }));
}

/** The most overrepresented tokens of each context, by their terms of the KL divergence from all tokens. */
function characteristicTokens(
  { contextCount, contextOfToken }: ContextsInput['contexts'],
  windows: readonly Int32Array[],
  decode: Decode,
): ContextToken[][] {
  const overall = new Map<number, number>();
  const within = Array.from({ length: contextCount }, () => new Map<number, number>());
  let at = 0;
  for (const window of windows) {
    for (const token of window) {
      const tokenCounts = within[contextOfToken[at++]!]!;
      tokenCounts.set(token, (tokenCounts.get(token) ?? 0) + 1);
      overall.set(token, (overall.get(token) ?? 0) + 1);
    }
  }
  return within.map((tokenCounts) => {
    const size = sum(tokenCounts.values());
    const candidates = [...tokenCounts].flatMap(([token, count]) => {
      const lift = count / size / (overall.get(token)! / at);
      return count >= MIN_TOKEN_COUNT && lift > 1 ? [{ token, count, lift, weight: count * Math.log(lift) }] : [];
    });
    candidates.sort((one, other) => other.weight - one.weight || one.token - other.token);
    return candidates
      .slice(0, TOKEN_COUNT)
      .map(({ token, count, lift }) => ({ text: decode([token]), count, lift: rounded(lift) }));
  });
}

/** The most typical tokens; different tokens from different windows come first. */
function pickExamples(typical: Int32Array, windows: readonly Int32Array[], decode: Decode): ContextExample[] {
  const length = windows[0]?.length ?? 1;
  const windowOf = (at: number) => Math.floor(at / length);
  const tokenAt = (at: number) => windows[windowOf(at)]![at % length]!;
  const order = [
    (at: number, chosen: readonly number[]) =>
      chosen.every((other) => tokenAt(other) !== tokenAt(at) && windowOf(other) !== windowOf(at)),
    (at: number, chosen: readonly number[]) => chosen.every((other) => tokenAt(other) !== tokenAt(at)),
    (at: number, chosen: readonly number[]) => !chosen.includes(at),
  ];
  const chosen: number[] = [];
  for (const isNew of order) {
    for (const at of typical) if (chosen.length < EXAMPLE_COUNT && isNew(at, chosen)) chosen.push(at);
  }
  return chosen.map((at) => quote(windows[windowOf(at)]!, at % length, decode));
}

/** A token with the text around it. Pieces are differences of decoded texts, since many decoders trim the start. */
export function quote(window: Int32Array, position: number, decode: Decode): ContextExample {
  const start = Math.max(0, position - QUOTE.tokensBefore);
  const before = decode(window.subarray(start, position));
  const through = decode(window.subarray(start, position + 1));
  const all = decode(window.subarray(start, position + 1 + QUOTE.tokensAfter));
  const token = through.startsWith(before) ? through.slice(before.length) : decode([window[position]!]);
  const after = all.startsWith(through) ? all.slice(through.length) : '';
  return { before: last(before, QUOTE.before), token, after: first(after, QUOTE.after) };
}

/** Cut between characters, never within one. */
const last = (text: string, count: number): string => Array.from(text).slice(-count).join('');
const first = (text: string, count: number): string => Array.from(text).slice(0, count).join('');

function rounded(value: number): number {
  return Number(value.toPrecision(3));
}
