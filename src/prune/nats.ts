/**
 * Converts a measured cost to nats per token. Gradients are those of the mean over a window's predictions, so their second
 * moments are smaller by the square of the number of predictions.
 */
export const nats = (cost: number, windowLength: number): number => cost * Math.max(1, windowLength - 1) ** 2;
