/** Writes docs/options.md and the README's table of commands from the rows of src/options: `npm run options`. */
import { readFileSync, writeFileSync } from 'node:fs';
import { formatCommands, formatOptionsPage, putBetween } from './options/format-options.js';

for (const [file, content] of [
  ['docs/options.md', formatOptionsPage()],
  ['README.md', formatCommands()],
] as const)
  writeFileSync(file, putBetween(readFileSync(file, 'utf8'), 'options', content));
