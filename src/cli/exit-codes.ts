/** Exit codes by the `code` of the library's errors; scripts may rely on them. */
export const EXIT_CODES = {
  ERR_OPTION: 2,
  ERR_MODEL_FORMAT: 3,
  ERR_UNSUPPORTED_MODEL: 4,
  ERR_NUMERICAL: 5,
  ERR_ENGINE: 6,
  ERR_HUB: 7,
} as const satisfies Record<string, number>;

export const EXIT_OK = 0;
export const EXIT_UNEXPECTED = 1;
export const EXIT_USAGE = 2;
/** 128 + SIGINT, as shells report it. */
export const EXIT_INTERRUPTED = 130;

/** The exit code for an error, by its stable `code`. */
export function exitCodeOf(code: string): number {
  return Object.hasOwn(EXIT_CODES, code) ? EXIT_CODES[code as keyof typeof EXIT_CODES] : EXIT_UNEXPECTED;
}
