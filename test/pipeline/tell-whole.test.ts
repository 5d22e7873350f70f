import { tellWhole } from '../../src/pipeline/tell-whole.js';

/** What is told of the whole, for steps such as `prune 1/2`. */
function told(work: Readonly<Record<string, number>>, fileCount: number, steps: readonly string[]): number[] {
  const wholes: number[] = [];
  const listener = tellWhole(({ whole }) => wholes.push(whole!), work, fileCount);
  for (const step of steps) {
    const [, stage = '', done, total] = /^(\w+) (\d+)\/(\d+)$/.exec(step)!;
    listener({ stage, done: Number(done), total: Number(total) });
  }
  return wholes.map((whole) => Number(whole.toFixed(3)));
}

const WORK = { load: 10, prune: 60, save: 10, evaluate: 20 };

it('weighs stages by their work, and counts those that are over', () => {
  const steps = ['load 0/1', 'prune 0/4', 'prune 2/4', 'save 0/1', 'evaluate 1/2'];
  expect(told(WORK, 1, steps)).toEqual([0, 0.1, 0.4, 0.7, 0.9]);
});

it('counts what comes again for every file', () => {
  const steps = ['prune 1/4', 'save 1/1', 'prune 2/4', 'save 0/1', 'save 1/1'];
  expect(told(WORK, 2, steps)).toEqual([0.25, 0.3, 0.45, 0.45, 0.5]);
});

it('never falls, and is never whole', () => {
  expect(told(WORK, 1, ['evaluate 2/2', 'prune 1/4', 'evaluate 0/2'])).toEqual([0.995, 0.995, 0.995]);
});
