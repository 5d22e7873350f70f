import { createColors } from 'picocolors';
import { createProgressDisplay } from '../../src/cli/progress-display.js';
import { createStatusLine } from '../../src/cli/status-line.js';
import { Screen } from '../support/screen.js';

const QUIET = { out: () => {}, err: () => {}, colors: createColors(false) };

/** A display on a log file, with a clock that is set by hand. */
function displayOnFile() {
  const lines: string[] = [];
  const clock = { ms: 0 };
  const display = createProgressDisplay({ ...QUIET, err: (text) => lines.push(text), now: () => clock.ms });
  return { lines, clock, display };
}

describe('progress in a log file', () => {
  it('is one line per stage, and one every five seconds with the remaining time', () => {
    const { lines, clock, display } = displayOnFile();
    display.listener({ stage: 'measure', done: 0, total: 4 });
    for (const [done, ms] of [
      [1, 3000],
      [2, 6000],
      [3, 9000],
    ] as const) {
      clock.ms = ms;
      const progress = { done, total: 4, overall: done / 5, remainingMs: 12_000 - ms };
      display.listener({ stage: 'measure', detail: `block ${done}`, ...progress });
    }
    display.listener({ stage: 'save', done: 0, total: 1 });
    display.close();
    expect(lines).toEqual([' 0 %  measure\n', '40 %  measure, about 6.0 s left, block 2\n', ' 0 %  save\n']);
  });

  it('never shows 100 %', () => {
    const { lines, display } = displayOnFile();
    display.listener({ stage: 'save', done: 1, total: 1 });
    expect(lines).toEqual(['99 %  save\n']);
  });
});

describe('progress on a terminal', () => {
  it('is one line, no wider than the terminal, in whole per cent', () => {
    const screen = new Screen(50);
    const status = createStatusLine(screen as unknown as NodeJS.WriteStream);
    const display = createProgressDisplay({ ...QUIET, status, now: () => 0 });
    const detail = `a text\nwith a \u001b[31mname of 名前 letters ${'x'.repeat(80)}`;
    display.listener({ stage: 'prune', done: 28, total: 223.20000000000002, detail, overall: 0.28 });
    const [line = '', ...others] = screen.shown();
    expect(others).toEqual([]);
    expect(line).toMatch(/^█{5}░{15} 28 % {2}prune, a text with a \\$/);
    display.close();
    expect(screen.shown()).toEqual([]);
  });

  it('counts the remaining time down between steps, and shows none once it is over', async () => {
    const screen = new Screen(80);
    const clock = { ms: 0 };
    const status = createStatusLine(screen as unknown as NodeJS.WriteStream);
    const display = createProgressDisplay({ ...QUIET, status, now: () => clock.ms });
    display.listener({ stage: 'prune', done: 1, total: 2, overall: 0.5, remainingMs: 5000 });
    expect(screen.shown()[0]).toContain('about 5.0 s left');
    clock.ms = 2000;
    await waitUntil(() => screen.shown()[0]!.includes('about 3.0 s left'));
    clock.ms = 6000;
    await waitUntil(() => !screen.shown()[0]!.includes('left'));
    display.close();
  });

  it.each([4, 15, 24])('fits into %i columns', (columns) => {
    const screen = new Screen(columns);
    const status = createStatusLine(screen as unknown as NodeJS.WriteStream);
    const display = createProgressDisplay({ ...QUIET, status, now: () => 0 });
    display.listener({ stage: 'prune', done: 1, total: 2 });
    expect(screen.shown().map(({ length }) => length)).toEqual([columns - 1]);
    display.close();
  });
});

async function waitUntil(isMet: () => boolean): Promise<void> {
  while (!isMet()) await new Promise((resolve) => setTimeout(resolve, 20));
}
