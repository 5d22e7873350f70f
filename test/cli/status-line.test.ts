import { createStatusLine } from '../../src/cli/status-line.js';
import { Screen } from '../support/screen.js';

const lineOn = (screen: Screen) => createStatusLine(screen as unknown as NodeJS.WriteStream);

it('truncates text to the width of the terminal, also text with wide characters', () => {
  const screen = new Screen(20);
  const line = lineOn(screen);
  line.draw(`measure, ${'日本語'.repeat(10)}`);
  expect(screen.shown()).toEqual(['measure, 日本語日本']);
  line.draw(`save ${'👍'.repeat(30)}`);
  expect(screen.shown()).toEqual([`save ${'👍'.repeat(7)}`]);
  line.draw('x'.repeat(60));
  expect(screen.shown()).toEqual(['x'.repeat(19)]);
});

it('leaves no characters of longer text, also before other output', () => {
  const screen = new Screen(100);
  const line = lineOn(screen);
  line.draw('y'.repeat(200));
  line.draw('prune');
  expect(screen.shown()).toEqual(['prune']);
  line.clear();
  screen.write('an error\n');
  expect(screen.shown()).toEqual(['an error']);
  line.draw('z'.repeat(200));
  expect(screen.shown()).toEqual(['an error', 'z'.repeat(99)]);
});

it.each([60, 30, 7])('is cleared entirely when the terminal shrinks from 100 columns to %i', (columns) => {
  const screen = new Screen(100);
  const line = lineOn(screen);
  screen.write('before\n');
  line.draw('w'.repeat(200));
  screen.resize(columns);
  expect(screen.shown()).toEqual(['before']);
  line.draw('w'.repeat(200));
  expect(screen.shown()).toEqual(['before', 'w'.repeat(columns - 1)]);
});

it('is cleared entirely after the terminal has echoed ^C', () => {
  const screen = new Screen(40);
  const line = lineOn(screen);
  line.draw('v'.repeat(80));
  screen.write('^C');
  line.close();
  screen.write('Stopping\n');
  expect(screen.shown()).toEqual(['Stopping']);
});

it('hides the cursor while it is shown, and draws nothing once closed', () => {
  const screen = new Screen(40);
  const line = lineOn(screen);
  line.draw('one');
  expect(screen.isCursorShown).toBe(false);
  line.clear();
  expect(screen.isCursorShown).toBe(true);
  line.draw('two');
  line.close();
  expect([screen.isCursorShown, screen.shown(), screen.listenerCount('resize')]).toEqual([true, [], 0]);
  line.draw('three');
  expect(screen.shown()).toEqual([]);
});
