/** Prints `N passed, N failed` from the runner's own counts, as the last line of the process. */
export default class TallyReporter {
  onRunComplete(_contexts, results) {
    // A suite that cannot start has no failed tests of its own, yet it is a failure.
    const failedCount = results.numFailedTests + results.numRuntimeErrorTestSuites;
    const skippedCount = results.numPendingTests + results.numTodoTests;
    const skipped = skippedCount > 0 ? `, ${skippedCount} skipped` : '';
    process.once('exit', () =>
      process.stdout.write(`${results.numPassedTests} passed, ${failedCount} failed${skipped}\n`),
    );
  }
}
