import type { Speedup } from '../evaluation/speed.js';
import type { WidthAdvice } from '../evaluation/width-advice.js';
import { formatBytes } from '../report/format-quantity.js';
import type { WidthProbes } from './probe-widths.js';

/** A model compared with the first one. */
export interface SpeedComparison {
  readonly model: string;
  readonly reference: string;
  readonly prefill: Speedup;
  readonly decode: Speedup;
  /** File bytes relative to the first model's. */
  readonly fileRatio: number;
  readonly memoryRatio: number;
  /** Neighbouring FFN widths on this machine; absent when they were not timed. */
  readonly widths?: WidthProbes;
  /** Sizes for the requested speedup; absent without one. */
  readonly target?: SpeedTarget;
  /** Summary, in sentences. */
  readonly summary: readonly string[];
}

/** Predicted bytes of a model that is `faster` times as fast as the reference; undefined if the two models do not determine them. */
export interface SpeedTarget {
  readonly faster: number;
  readonly prefillBytes?: number | undefined;
  readonly decodeBytes?: number | undefined;
}

/**
 * Predicts sizes from two models of one dtype: time is linear in the bytes of the weights, which every token reads.
 *
 * @param faster Times as fast as the reference, above 1. @param bytes The two models' files.
 */
export function targetSpeed(
  faster: number,
  { prefill, decode }: Pick<SpeedComparison, 'prefill' | 'decode'>,
  bytes: { readonly own: number; readonly reference: number },
): SpeedTarget {
  const bytesFor = ({ ratio, verdict }: Speedup): number | undefined => {
    if (verdict !== 'faster' || bytes.own >= bytes.reference) return undefined;
    const found = bytes.reference - ((bytes.reference - bytes.own) * (1 - 1 / faster)) / (1 - 1 / ratio);
    return found > 0 ? Math.round(found) : undefined;
  };
  return { faster, prefillBytes: bytesFor(prefill), decodeBytes: bytesFor(decode) };
}

/** Describes a comparison: speedup, and advice on widths. */
export function explainSpeed(
  { prefill, decode, fileRatio, widths, target }: Omit<SpeedComparison, 'summary'>,
  hasCache: boolean,
): string[] {
  const isFaster = prefill.verdict === 'faster' || decode.verdict === 'faster';
  return [
    describeSpeed('Prefill', prefill),
    describeSpeed('Decode', decode),
    ...(isFaster || fileRatio >= 1
      ? []
      : [`It is smaller (${percent(1 - fileRatio)} less on the disk) but not faster on this machine.`]),
    ...(target === undefined ? [] : [describeTarget(target)]),
    ...(hasCache ? [] : ['The graph has no KV cache: every generated token reads the whole text again.']),
    ...(widths === undefined ? [] : [describeWidths(widths.advice)]),
  ];
}

function describeSpeed(phase: string, { ratio, interval, verdict }: Speedup): string {
  const range = `95 % interval ${interval.map((end) => end.toFixed(2)).join(' to ')}`;
  if (verdict === 'same') return `${phase}: no faster beyond noise, ${ratio.toFixed(2)} times (${range}).`;
  return `${phase}: ${verdict}, ${ratio.toFixed(2)} times as fast (${range}).`;
}

function describeTarget({ faster, prefillBytes, decodeBytes }: SpeedTarget): string {
  const needs = (phase: string, bytes: number | undefined) =>
    bytes === undefined ? [] : [`${phase} is ${faster} times as fast at ${formatBytes(bytes)}`];
  const found = [...needs('decode', decodeBytes), ...needs('prefill', prefillBytes)];
  if (found.length === 0)
    return `The size that would be ${faster} times as fast cannot be predicted: compare a model that is smaller and faster.`;
  return `Predicted: ${found.join('; ')}. Request it by 'shrink --allow neurons,heads --target-size', and measure again.`;
}

function describeWidths(advice: readonly WidthAdvice[]): string {
  const [first, ...others] = [...advice].sort(
    (a, b) => a.prefillRatio + a.decodeRatio - b.prefillRatio - b.decodeRatio,
  );
  if (first === undefined) {
    return 'Neighbouring FFN widths are not faster per neuron here: another width multiple would not help.';
  }
  const { multiple, width, rounded, prefillRatio, decodeRatio } = first;
  const more = others.length === 0 ? '' : ', and similarly in other blocks';
  return (
    `FFN width ${width} is slow here: at ${rounded} a neuron takes ${change(prefillRatio)} time for a prompt and ` +
    `${change(decodeRatio)} for a token${more}. Try the width multiple ${multiple} when pruning.`
  );
}

function change(ratio: number): string {
  return ratio < 1 ? `${percent(1 - ratio)} less` : `${percent(ratio - 1)} more`;
}

function percent(fraction: number): string {
  return `${Math.round(100 * fraction)} %`;
}
