import { availableParallelism } from 'node:os';

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
  // Tests wait for browsers, other processes and disks. Jest takes percentages above 100 for a number of workers.
  maxWorkers: Math.ceil(1.5 * availableParallelism()),
  reporters: ['default', '<rootDir>/test/support/tally-reporter.js'],
};
