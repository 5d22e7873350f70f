import { PassThrough } from 'node:stream';
import { createColors } from 'picocolors';
import { createProgressDisplay } from '../../src/cli/progress-display.js';

const QUIET = { out: () => {}, err: () => {}, colors: createColors(false) };

/** A display on a log file, with a clock that is set by hand. */
function displayOnFile() {
  const lines: string[] = [];
  const clock = { ms: 0 };
  const display = createProgressDisplay({ ...QUIET, err: (text) => lines.push(text), now: () => clock.ms });
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
    expect(lines).toEqual([' 0 %  measure\n', '50 %  measure, block 2, about 6.0 s left\n', ' 0 %  save\n']);
  });

  it('does not count what was done before as speed', () => {
    const { lines, clock, display } = displayOnFile();
    display.listener({ stage: 'generate', done: 0, total: 1 });
    display.listener({ stage: 'generate', done: 50, total: 100 });
    clock.ms = 6000;
    display.listener({ stage: 'generate', done: 60, total: 100 });
    expect(lines).toEqual([' 0 %  generate\n', '60 %  generate, about 24 s left\n']);
  });

  it('is of the whole job where that is foreseen', () => {
    const { lines, clock, display } = displayOnFile();
    display.listener({ stage: 'generate', done: 0, total: 1, whole: 0.1 });
    clock.ms = 10_000;
    display.listener({ stage: 'generate', done: 1, total: 1, whole: 0.3 });
    display.listener({ stage: 'prune', done: 0, total: 223.2, whole: 0.3 });
    expect(lines.slice(1)).toEqual(['30 %  generate, about 35 s left\n', '30 %  prune, about 35 s left\n']);
  });

  it('never says that all is done', () => {
    const { lines, display } = displayOnFile();
    display.listener({ stage: 'save', done: 1, total: 1 });
    expect(lines).toEqual(['99 %  save\n']);
  });
});

describe('progress on a terminal', () => {
  /** What is written to a terminal of so many columns. */
  function displayOnTerminal(columns: number) {
    const stream = Object.assign(new PassThrough(), { isTTY: true, columns }) as unknown as NodeJS.WriteStream;
    Object.assign(stream, {
      cursorTo: () => true,
      clearLine: () => true,
      clearScreenDown: () => true,
      moveCursor: () => true,
    });
    let written = '';
    stream.on('data', (part) => {
      written += String(part);
    });
    const display = createProgressDisplay({ ...QUIET, errStream: stream, now: () => 0 });
    const codes = new RegExp(`${String.fromCharCode(0x1b)}(\\[[0-9;?]*[A-Za-z]|[78])`, 'g');
    return { display, shown: () => written.split(codes).filter((part) => part?.includes('%')) };
  }

  it('is one line, no wider than the terminal, in whole per cent', async () => {
    const { display, shown } = displayOnTerminal(50);
    const detail = `a text with a long name ${'x'.repeat(80)}`;
    display.listener({ stage: 'prune', done: 28, total: 223.20000000000002, detail, whole: 0.28 });
    await new Promise((resolve) => setTimeout(resolve, 300));
    display.close();
    const lines = shown();
    expect(lines.length).toBeGreaterThan(0);
    for (const line of lines) {
      expect(line.length).toBeLessThan(50);
      expect(line).toMatch(/^█{5}░{15} 28 % {2}prune, a text/);
    }
  });
});
