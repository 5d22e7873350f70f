/** This library's version, as reports state it; kept equal to package.json by a test. */
export const VERSION = '0.1.0';
