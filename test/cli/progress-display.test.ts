import { createColors } from 'picocolors';
import { createProgressDisplay } from '../../src/cli/progress-display.js';

/** A display on a log file, with a clock that is set by hand. */
function displayOnFile() {
  const lines: string[] = [];
  const clock = { ms: 0 };
  const display = createProgressDisplay({
    out: () => {},
    err: (text) => lines.push(text),
    colors: createColors(false),
    now: () => clock.ms,
  });
  return { lines, clock, display };
}

describe('progress in a log file', () => {
  it('is a line a stage, and one every five seconds with the remaining time', () => {
    const { lines, clock, display } = displayOnFile();
    display.listener({ stage: 'measure', done: 0, total: 4 });
    for (const [done, ms] of [
      [1, 3000],
      [2, 6000],
      [3, 9000],
    ] as const) {
      clock.ms = ms;
      display.listener({ stage: 'measure', done, total: 4, detail: `block ${done}` });
    }
    display.listener({ stage: 'save', done: 0, total: 1 });
    display.close();
    expect(lines).toEqual(['measure: 0 of 4\n', 'measure: 2 of 4 (block 2), about 6.0 s left\n', 'save: 0 of 1\n']);
  });

  it('does not count what was done before as speed', () => {
    const { lines, clock, display } = displayOnFile();
    display.listener({ stage: 'generate', done: 0, total: 1 });
    display.listener({ stage: 'generate', done: 50, total: 100 });
    clock.ms = 6000;
    display.listener({ stage: 'generate', done: 60, total: 100 });
    expect(lines).toEqual(['generate: 0 of 1\n', 'generate: 60 of 100, about 24 s left\n']);
  });
});
