/** A run was interrupted; the message says what is left of it. */
export class InterruptedError extends Error {}
