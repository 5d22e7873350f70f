/** @type {import('jest').Config} */
export default {
  testMatch: ['<rootDir>/test/**/*.test.ts'],
  extensionsToTreatAsEsm: ['.ts'],
  transform: {
    '^.+\\.ts$': [
      '@swc/jest',
      { jsc: { target: 'es2022', parser: { syntax: 'typescript' } }, module: { type: 'es6' } },
    ],
  },
  moduleNameMapper: {
    '^(\\.{1,2}/.*)\\.js$': '$1',
    '^fang-prune$': '<rootDir>/src/node.ts',
    '^fang-prune/core$': '<rootDir>/src/index.ts',
  },
  modulePathIgnorePatterns: ['<rootDir>/dist/'],
  testTimeout: 180_000,
  // Graphs of small models leave cores idle.
  maxWorkers: '100%',
  reporters: ['default', '<rootDir>/test/support/tally-reporter.js'],
};
