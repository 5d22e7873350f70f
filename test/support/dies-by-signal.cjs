/** Preload that ends a worker by a signal, like a crash of native code. */
if (process.send !== undefined) setTimeout(() => process.kill(process.pid, 'SIGFPE'), 20);
