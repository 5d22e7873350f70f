import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Found, Task } from './measurement.js';

/**
 * Measures a task in a separate process, for its peak memory.
 * @param onFound Called with every figure at once.
 * @returns whether it succeeded; errors are on stderr.
 */
export async function runTask(task: Task, onFound: (found: Found) => void): Promise<boolean> {
  const child = spawn('npx', ['tsx', 'scripts/results/measure-ladder.mts', JSON.stringify(task)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(child, 'close');
  for await (const line of createInterface(child.stdout)) onFound(JSON.parse(line) as Found);
  const [code] = await ended;
  return code === 0;
}
