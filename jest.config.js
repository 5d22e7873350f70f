/** @type {import('jest').Config} */
export default {
  testMatch: ['<rootDir>/test/**/*.test.ts'],
  // `tsx` loads TypeScript; see the script `test`.
  transform: {},
  testEnvironment: '<rootDir>/test/support/node-environment.mjs',
  testRunner: '<rootDir>/test/support/node-runner.mjs',
  modulePathIgnorePatterns: ['<rootDir>/dist/'],
  testTimeout: 180_000,
  // Graphs of small models leave cores idle.
  maxWorkers: '100%',
  reporters: ['default', '<rootDir>/test/support/tally-reporter.js'],
};
