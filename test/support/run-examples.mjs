/**
 * Runs examples one after the other in one process, which loads the library once: `node run-examples.mjs RUNS`, a JSON list of
 * `{ file, cwd, out }`. Prints a JSON list of what each of them printed, or the stack of what it threw.
 */
import { pathToFileURL } from 'node:url';

const [node, , runs = '[]'] = process.argv;
const write = process.stdout.write.bind(process.stdout);
const printed = [];
for (const { file, cwd, out } of JSON.parse(runs)) {
  let output = '';
  process.stdout.write = (text) => {
    output += text;
    return true;
  };
  process.chdir(cwd);
  process.argv = [node, file, out];
  await import(pathToFileURL(file).href).catch((error) => {
    output += error.stack;
  });
  printed.push(output);
}
process.stdout.write = write;
process.stdout.write(JSON.stringify(printed));
