import { counted } from '../counted.js';
import type { HealingReport } from '../healing/heal-model.js';
import { formatDivergence } from '../report/format-figure.js';

/** Result of healing. @param subject Beginning of the sentence. */
export function formatHealing(healing: HealingReport | undefined, subject = 'Healed'): string[] {
  if (healing === undefined) return [];
  const { windowCount, windowLength, divergence, keptStep, curve, stopped } = healing;
  const { before, after } = divergence;
  const stepCount = Math.max(...curve.map(({ step }) => step));
  return [
    `${subject} on ${counted(windowCount, 'window')} of ${windowLength} tokens: the divergence from the dense model went from ` +
      `${formatDivergence(before)} to ${formatDivergence(after)} nats per token on held-out windows (step ${keptStep} of ${stepCount}${stopped ? ', stopped there' : ''}).\n`,
  ];
}
