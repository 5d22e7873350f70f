/**
 * Type-checks every TypeScript block of the documentation against the built package. A block may leave out imports and
 * declarations: exported names of the library are imported, and the names in `GIVEN` are declared.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import ts from 'typescript';

/** Declarations of names that blocks use without declaring them. */
const GIVEN: Readonly<Record<string, string>> = {
  model: 'string',
  out: 'string',
  files: 'Map<string, Uint8Array>',
  database: '{ query(sql: string): AsyncIterable<{ readonly body: string }> }',
  onProgress: "import('fang-prune').ProgressListener",
  signal: 'AbortSignal',
  job: "import('fang-prune/core').PruneJob",
  decoder: "import('fang-prune/core').OnnxModel",
  embedding: "import('fang-prune/core').OnnxModel",
  runtime: "import('fang-prune/core').OrtModule",
  runner: "import('fang-prune/core').BlockRunner",
  scratch: "import('fang-prune/core').ScratchFile",
  platform: "import('fang-prune').Platform",
  showDirectoryPicker: "() => Promise<import('fang-prune').DirectoryHandle>",
};

/** Entries that blocks are written for, Node.js and web; a block may use both. */
const ENTRIES = ['dist/node.d.ts', 'dist/web.d.ts'];
const CORE = 'dist/index.d.ts';

interface Block {
  /** Page and line. */
  readonly place: string;
  readonly code: string;
}

const parsed = new Map<string, ts.SourceFile | undefined>();
const coreNames = exportedNames(CORE);
const documents = ['README.md', 'CHANGELOG.md', ...pagesIn('docs')];
const blocks = documents.flatMap(blocksOf);
const faults = ENTRIES.map((entry) => check(entry));
const failed = blocks.filter(({ place }) => faults.every((found) => found.has(place)));
for (const { place } of failed)
  process.stderr.write(
    `${place}: ${faults
      .map((found) => found.get(place)!)
      .sort((a, b) => a.length - b.length)[0]!
      .join('\n  ')}\n`,
  );
process.stdout.write(`${blocks.length} blocks of TypeScript, ${failed.length} of them wrong\n`);
process.exitCode = failed.length === 0 ? 0 : 1;

function pagesIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.md') && !name.startsWith('api'))
    .map((name) => join(folder, name));
}

function blocksOf(document: string): Block[] {
  const text = readFileSync(document, 'utf8');
  return [...text.matchAll(/^```(?:ts|typescript)\n([\s\S]*?)^```/gm)].map(({ 1: code = '', index }) => ({
    place: `${document}:${text.slice(0, index).split('\n').length + 1}`,
    code,
  }));
}

/** What is wrong with blocks on an entry of the package, by place. */
function check(entry: string): ReadonlyMap<string, readonly string[]> {
  const { config } = ts.readConfigFile('tsconfig.json', ts.sys.readFile) as { config: { compilerOptions: object } };
  const { options } = ts.convertCompilerOptionsFromJson(config.compilerOptions, process.cwd());
  const own = exportedNames(entry);
  const names = { 'fang-prune': own, 'fang-prune/core': coreNames.filter((name) => !own.includes(name)) };
  const sources = new Map(blocks.map((block, at) => [resolve(`block-${at}.ts`), complete(block.code, names)]));
  const host = createHost(options);
  const { readFile, fileExists, getSourceFile } = host;
  Object.assign(host, {
    readFile: (name: string) => sources.get(resolve(name)) ?? readFile.call(host, name),
    fileExists: (name: string) => sources.has(resolve(name)) || fileExists.call(host, name),
    getSourceFile: (name: string, target: ts.ScriptTarget) => {
      const own = sources.get(resolve(name));
      return own === undefined ? getSourceFile.call(host, name, target) : ts.createSourceFile(name, own, target);
    },
  });
  const program = ts.createProgram(
    [...sources.keys()],
    {
      ...options,
      noUnusedLocals: false,
      noUnusedParameters: false,
      paths: { 'fang-prune': [`./${entry}`], 'fang-prune/core': [`./${CORE}`] },
    },
    host,
  );
  const found = new Map<string, string[]>();
  for (const [at, block] of blocks.entries()) {
    const file = program.getSourceFile(resolve(`block-${at}.ts`))!;
    const said = [...program.getSyntacticDiagnostics(file), ...program.getSemanticDiagnostics(file)];
    const messages = said.map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, ' '));
    if (messages.length > 0) found.set(block.place, messages);
  }
  return found;
}

/** Each file is parsed once for all programs. */
function createHost(options: ts.CompilerOptions): ts.CompilerHost {
  const host = ts.createCompilerHost(options);
  const { getSourceFile } = host;
  host.getSourceFile = (name, ...rest) => {
    if (!parsed.has(name)) parsed.set(name, getSourceFile.call(host, name, ...rest));
    return parsed.get(name);
  };
  return host;
}

/** Values that an entry exports. */
function exportedNames(entry: string): readonly string[] {
  const { config } = ts.readConfigFile('tsconfig.json', ts.sys.readFile) as { config: { compilerOptions: object } };
  const { options } = ts.convertCompilerOptionsFromJson(config.compilerOptions, process.cwd());
  const program = ts.createProgram([entry], options, createHost(options));
  const checker = program.getTypeChecker();
  const symbol = checker.getSymbolAtLocation(program.getSourceFile(entry)!);
  return symbol === undefined ? [] : checker.getExportsOfModule(symbol).map(({ name }) => name);
}

/** Adds omitted imports and declarations to a block. */
function complete(code: string, names: Readonly<Record<string, readonly string[]>>): string {
  const uses = (name: string) => new RegExp(`(?<![\\w'"/]|(?<!\\.\\.)\\.)${name}\\b(?!\\s*:)`).test(code);
  const has = (name: string) =>
    new RegExp(`(?:const|let|function\\*?|class) (?:\\{[^}]*)?\\b${name}\\b|import[^;]*\\b${name}\\b`).test(code);
  const given = Object.entries(GIVEN).filter(
    ([name]) => new RegExp(`(?<!\\w|(?<!\\.\\.)\\.)${name}\\b`).test(code) && !has(name),
  );
  return [
    ...Object.entries(names).map(([from, all]) => {
      const imported = all.filter((name) => uses(name) && !has(name));
      return `import { ${imported.map((name) => (/^[A-Z][a-z]/.test(name) && !/Error$/.test(name) ? `type ${name}` : name)).join(', ')} } from '${from}';`;
    }),
    ...given.map(([name, type]) => `declare const ${name}: ${type};`),
    code,
    'export {};',
  ].join('\n');
}
