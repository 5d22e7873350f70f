import { execFileSync } from 'node:child_process';
import { truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { OptionError } from '../../src/errors.js';
import { nodeFiles } from '../../src/node/node-files.js';
import { readTexts } from '../../src/pipeline/read-texts.js';
import { openTextSource, readLines, readText } from '../../src/storage/read-text.js';
import { useTemporaryFolder } from '../support/temporary-folder.js';

const folder = useTemporaryFolder();
const at = (path: string) => join(folder(), path);

async function linesOf(content: string): Promise<string[]> {
  await writeFile(at('lines'), content);
  return collect(at('lines'));
}

async function collect(path: string): Promise<string[]> {
  const lines: string[] = [];
  for await (const line of readLines(nodeFiles, path)) lines.push(line);
  return lines;
}

it('reads lines with any line ending, also across chunks of the file', async () => {
  expect(await linesOf('a\nb\r\nc\rd')).toEqual(['a', 'b', 'c', 'd']);
  expect(await linesOf('a\n\nb\n')).toEqual(['a', '', 'b']);
  expect(await linesOf('')).toEqual([]);
  expect(await linesOf('\ufeff{}\r\n\ufeff')).toEqual(['{}', '\ufeff']);
  // U+2028 separates lines in JavaScript, and may be in a JSON string.
  expect(await linesOf('{"text":"a\u2028b"}\n')).toHaveLength(1);
  const long = 'x'.repeat(2 ** 20 - 1);
  expect(await linesOf(`${long}\r\nä\r`)).toEqual([long, 'ä']);
  expect(await linesOf(`${long}ä\n`)).toEqual([`${long}ä`]);
});

it('reads JSONL documents, whatever the case of the extension', async () => {
  for (const name of ['a.jsonl', 'A.JSONL']) {
    await writeFile(at(name), '{"text":"a"}\n{"text":"b"}\n');
    expect(await openTextSource(nodeFiles, at(name))).toHaveProperty('jsonl');
    expect(await readTexts(nodeFiles, at(name))).toBe('a\n\nb');
  }
});

it('searches each character of a long line once', async () => {
  const length = 6 * 2 ** 20;
  await writeFile(at('lines'), `${'x'.repeat(length)}\nend`);
  const split = jest.spyOn(String.prototype, 'split');
  try {
    const lines = await collect(at('lines'));
    expect(lines.map((line) => line.length)).toEqual([length, 3]);
    const searched = split.mock.contexts.reduce<number>((sum, text) => sum + String(text).length, 0);
    expect(searched).toBeLessThan(1.5 * length);
  } finally {
    split.mockRestore();
  }
});

it('refuses a line that would take hundreds of megabytes of memory', async () => {
  await writeFile(at('lines'), 'first\n');
  await truncate(at('lines'), 2 ** 25 + 2 ** 21);
  await expect(collect(at('lines'))).rejects.toThrow(
    /lines: a line has more than 33554432 characters; split its document/,
  );
});

it('removes only the byte order mark of a text, and refuses missing files and folders', async () => {
  await writeFile(at('text'), '\ufeffa\r\nb');
  expect(await readText(nodeFiles, at('text'))).toBe('a\r\nb');
  await writeFile(at('text'), 'a\ufeffb');
  expect(await readText(nodeFiles, at('text'))).toBe('a\ufeffb');
  await expect(readText(nodeFiles, at('none'))).rejects.toThrow(OptionError);
  await expect(readText(nodeFiles, folder())).rejects.toThrow(/Cannot read the text .* is not a file/);
  await expect(collect(at('none'))).rejects.toThrow(OptionError);
});

it('refuses other encodings than UTF-8, and reads a text that ends inside a character', async () => {
  await writeFile(at('text'), Buffer.from('caf\u00e9 au lait', 'latin1'));
  await expect(readText(nodeFiles, at('text'))).rejects.toThrow(OptionError);
  await expect(readText(nodeFiles, at('text'))).rejects.toThrow(/text: it is not in UTF-8; save it as UTF-8\.$/);
  await expect(collect(at('text'))).rejects.toThrow(/text: it is not in UTF-8; save it as UTF-8\.$/);
  await expect(collect(at('text'))).rejects.toThrow(OptionError);
  await writeFile(at('text'), Buffer.from('caf\u00e9').subarray(0, -1));
  expect(await readText(nodeFiles, at('text'))).toBe('caf');
  expect(await collect(at('text'))).toEqual(['caf']);
});

it('reads a text from a pipe, but no model', async () => {
  if (process.platform === 'win32') return;
  execFileSync('mkfifo', [at('pipe')]);
  const [text] = await Promise.all([readText(nodeFiles, at('pipe')), writeFile(at('pipe'), 'piped')]);
  expect(text).toBe('piped');
  await expect(nodeFiles.open(at('pipe'))).rejects.toThrow(/not a file/);
});
