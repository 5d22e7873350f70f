/** @type {import('jest').Config} */
export default {
  testMatch: ['<rootDir>/test/**/*.test.ts'],
  // `tsx` loads TypeScript; see the script `test`.
  transform: {},
  testEnvironment: '<rootDir>/test/support/node-environment.mjs',
  testSequencer: '<rootDir>/test/support/slowest-first.mjs',
  testRunner: '<rootDir>/test/support/node-runner.mjs',
  modulePathIgnorePatterns: ['<rootDir>/dist/'],
  testTimeout: 180_000,
  // Tests wait for browsers, other processes and disks.
  maxWorkers: '150%',
  reporters: ['default', '<rootDir>/test/support/tally-reporter.js'],
};
