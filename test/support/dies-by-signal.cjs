/** Preloaded into a worker, has it die as native code does. */
if (process.send !== undefined) setTimeout(() => process.kill(process.pid, 'SIGFPE'), 20);
