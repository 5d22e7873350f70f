/** A unique name. */
export const randomName = (): string => Math.random().toString(36).slice(2, 10);
