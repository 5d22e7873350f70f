import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { formatCommands, formatOptionsPage, putBetween } from '../scripts/options/format-options.js';
import { SOURCES } from '../scripts/repository.js';
import { EXIT_CODES } from '../src/cli/exit-codes.js';
import { runWithDouble } from './support/cli.js';

const readme = readFileSync('README.md', 'utf8');
const documents = [
  'README.md',
  'CHANGELOG.md',
  'CONTRIBUTING.md',
  ...markdownIn('docs'),
  ...markdownIn('examples/models/tiny-llama'),
];

interface Link {
  readonly file: string;
  readonly anchor: string | undefined;
}

/** Files of the project that a document links to: inline or by reference, by relative paths or GitHub URLs. */
function linksOf(document: string): Link[] {
  const text = readFileSync(document, 'utf8');
  const targets = [...text.matchAll(/\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)$/gm)];
  return targets.flatMap(([, inline, byReference]) => {
    const [path = '', anchor] = (inline ?? byReference ?? '').split('#');
    if (path.startsWith(SOURCES)) return [{ file: path.slice(SOURCES.length), anchor }];
    if (/^https?:/.test(path)) return [];
    return [{ file: path === '' ? document : join(dirname(document), path), anchor }];
  });
}

const linkedFiles = (document: string): string[] => linksOf(document).map(({ file }) => file);

it.each(documents)('%s links only to files that exist', (document) => {
  expect(linkedFiles(document).filter((target) => !existsSync(target))).toEqual([]);
});

/** Anchors that GitHub and typedoc give a page's headings; those of headings with code differ. */
function anchorsOf(document: string): string[] {
  const text = readFileSync(document, 'utf8').replaceAll(/^```[\s\S]*?^```/gm, '');
  return [...text.matchAll(/^#+ ([^`\n]*)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );
}

it.each(documents)('%s links only to headings that exist', (document) => {
  const missing = linksOf(document).filter(
    ({ file, anchor }) => anchor !== undefined && file.endsWith('.md') && !anchorsOf(file).includes(anchor),
  );
  expect(missing).toEqual([]);
});

it.each(documents)('%s uses each link that it defines, and defines each that it uses', (document) => {
  const text = readFileSync(document, 'utf8').replaceAll(/^```[\s\S]*?^```|`[^`\n]*`/gm, '');
  const defined = [...text.matchAll(/^\[([^\]]+)\]: \S+$/gm)].map(([, name = '']) => name.toLowerCase());
  const used = [
    ...text.replaceAll(/^\[[^\]]+\]: \S+$/gm, '').matchAll(/(?<!!)\[([^[\]]+)\](?:\[([^\]]+)\])?(?!\(|\])/g),
  ].map(([, words = '', name = words]) => name.replaceAll(/\s+/g, ' ').toLowerCase());
  expect(defined.filter((name) => !used.includes(name))).toEqual([]);
  if (defined.length > 0) expect(used.filter((name) => !defined.includes(name))).toEqual([]);
});

it('the README has no relative link, which would be dead in the package', () => {
  expect(readme.match(/\]\((?!https?:|#)[^)]+\)|^\[[^\]]+\]: (?!https?:)/gm)).toBeNull();
  expect(linkedFiles('README.md').length).toBeGreaterThan(30);
});

it('every page is linked to by another', () => {
  const linked = documents.flatMap((document) => linkedFiles(document).filter((target) => target !== document));
  expect(documents.filter((document) => document !== 'README.md' && !linked.includes(document))).toEqual([]);
});

it.each([
  'prune',
  'quantize',
  'shrink',
  'choose',
  'observe',
  'merge',
  'apply',
  'heal',
  'trim-vocabulary',
  'describe',
  'eval',
  'compare',
  'bench',
  'report',
  'bias',
  'push',
])('the README or docs/options.md names every flag of %s', async (command) => {
  const { out } = await runWithDouble(
    `${command} ${['prune', 'quantize', 'shrink', 'choose'].includes(command) ? '--help-all' : '--help'}`,
  );
  const flags = [...out.matchAll(/^ {2}(?:-\w, )?(--[\w-]+)/gm)].map(([, flag = '']) => flag);
  expect(flags).toContain('--json');
  const page = `${readme}${readFileSync('docs/options.md', 'utf8')}`;
  expect(flags.filter((flag) => !/--help/.test(flag) && !new RegExp(`${flag}[ \`]`).test(page))).toEqual([]);
});

it.each([
  ['docs/options.md', formatOptionsPage()],
  ['README.md', formatCommands()],
])('%s is what npm run options writes from the rows of options', (file, content) => {
  const page = readFileSync(file, 'utf8');
  expect(putBetween(page, 'options', content)).toBe(page);
});

it('the README names every exit code', () => {
  expect(Object.values(EXIT_CODES).filter((code) => !readme.includes(`| ${code} |`))).toEqual([]);
});

it('every dependency has its reason in docs/contributing/dependencies.md', () => {
  const { dependencies, optionalDependencies, peerDependencies } = JSON.parse(readFileSync('package.json', 'utf8'));
  const reasons = readFileSync('docs/contributing/dependencies.md', 'utf8');
  const names = [dependencies, optionalDependencies, peerDependencies].flatMap(Object.keys);
  expect(names.filter((name) => !reasons.includes(`\`${name}\``))).toEqual([]);
});

it('docs/research/fang-in-code.md names only what is exported', () => {
  const page = readFileSync('docs/research/fang-in-code.md', 'utf8');
  const exported = ['src/index.ts', 'src/public.ts'].map((file) => readFileSync(file, 'utf8')).join('');
  const names = [...page.matchAll(/^- Exports: (.*(?:\n {2}.*)*)/gm)].flatMap(([, list = '']) =>
    [...list.matchAll(/`(\w+)`/g)].map(([, name = '']) => name),
  );
  expect(names.length).toBeGreaterThan(40);
  expect(names.filter((name) => !new RegExp(`\\b${name}\\b`).test(exported))).toEqual([]);
});

/** Pages below a folder, without the reference that typedoc writes. */
function markdownIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.md') && !name.startsWith('api'))
    .map((name) => join(folder, name));
}

it('every command in the documentation has only flags that exist', async () => {
  const used = documents.flatMap((document) => {
    const blocks = [...readFileSync(document, 'utf8').matchAll(/^```sh\n([\s\S]*?)^```/gm)].map(
      ([, block = '']) => block,
    );
    const lines = blocks.join('').replaceAll('\\\n', ' ').split('\n');
    return lines.flatMap((line) => {
      const [, command, rest = ''] = /\bfang-prune ([a-z][a-z-]*)(?![\w-])([^#|>]*)/.exec(line) ?? [];
      return command === undefined ? [] : [{ document, command, flags: rest.match(/(?<= )--?[a-z][\w-]*/g) ?? [] }];
    });
  });
  expect(used.length).toBeGreaterThan(20);
  const known = new Map<string, string>();
  for (const command of new Set(used.map(({ command }) => command))) {
    const { out } = await runWithDouble(`${command} --help-all`);
    known.set(command, out === '' ? (await runWithDouble(`${command} --help`)).out : out);
  }
  const unknown = used.flatMap(({ document, command, flags }) =>
    flags
      .filter((flag) => !new RegExp(`(?<![\\w-])${flag}(?![\\w-])`).test(known.get(command)!))
      .map((flag) => `${document}: ${command} ${flag}`),
  );
  expect(unknown).toEqual([]);
});
