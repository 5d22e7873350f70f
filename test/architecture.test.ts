import { builtinModules } from 'node:module';
import { type Import, readImports, sourceFiles } from './support/read-imports.js';

const STAGES: readonly string[] = [
  'activations',
  'grouping',
  'importance',
  'allocation',
  'compensation',
  'removal',
  'quantisation',
];

/** Lowest first: a file may import from its own folder and from lower layers only. */
const LAYERS = [
  ['counted', 'parse-json', 'printable'],
  ['concatenate', 'errors', 'free-bytes', 'ignore-rejection', 'omit', 'progress', 'error-message', 'version'],
  ['linalg'],
  ['onnx', 'calibration'],
  ['operators'],
  ['architecture'],
  ['runtime'],
  STAGES,
  ['healing', 'vocabulary'],
  ['options'],
  ['evaluation'],
  ['prune'],
  ['report'],
  ['public'],
  ['index'],
  ['storage'],
  ['pipeline'],
  ['node', 'web'],
  ['cli'],
] as const;

/**
 * Stages share types, not code. Exceptions: a method is a score and the repair that fits it, and an allocation may use a score
 * or an adapter.
 */
const SHARED_BY_STAGES = [
  ['compensation', 'importance'],
  ['allocation', 'compensation'],
  ['allocation', 'importance'],
];

/** The only files that may import modules of a platform. */
const PLATFORM_FILES = /^src\/(node|web)\/|^src\/cli\/terminal\.ts$/;

const PLATFORM_MODULES = ['onnxruntime-node', 'onnxruntime-web', ...builtinModules];

const imports = readImports();
const relativeImports = imports.filter(({ isRelative }) => isRelative);

/** `src/onnx/load-model.ts` and `src/onnx.ts` belong to `onnx`. */
const partOf = (file: string) => file.split('/')[1]?.replace(/\.ts$/, '') ?? '';
const layerOf = (file: string) => LAYERS.findIndex((layer) => (layer as readonly string[]).includes(partOf(file)));
const show = ({ file, target }: Import) => `${file} -> ${target}`;

it('every source file belongs to a layer', () => {
  expect(sourceFiles().filter((file) => layerOf(file) === -1)).toEqual([]);
});

it('imports only from the same and lower layers', () => {
  const isAllowed = ({ file, target }: Import) =>
    partOf(file) === partOf(target) || isBetweenStages(file, target) || layerOf(target) < layerOf(file);
  expect(relativeImports.filter((found) => !isAllowed(found)).map(show)).toEqual([]);
});

it('imports only types between stages', () => {
  const isAllowed = ({ file, target, isTypeOnly }: Import) =>
    isTypeOnly || SHARED_BY_STAGES.some(([from, to]) => partOf(file) === from && partOf(target) === to);
  const between = relativeImports.filter(({ file, target }) => isBetweenStages(file, target));
  expect(between.filter((found) => !isAllowed(found)).map(show)).toEqual([]);
});

it('imports modules of a platform only in node/, web/ and the terminal', () => {
  const isPlatform = ({ target }: Import) => target.startsWith('node:') || PLATFORM_MODULES.includes(target);
  const outside = imports.filter(({ file }) => !PLATFORM_FILES.test(file));
  expect(outside.filter(isPlatform).map(show)).toEqual([]);
});

it('imports packages for terminals only in the command line', () => {
  const terminalPackages = ['commander', 'fast-string-truncated-width', 'cli-table3', 'picocolors'];
  const outside = imports.filter(({ file }) => partOf(file) !== 'cli');
  expect(outside.filter(({ target }) => terminalPackages.includes(target)).map(show)).toEqual([]);
});

function isBetweenStages(file: string, target: string): boolean {
  return STAGES.includes(partOf(file)) && STAGES.includes(partOf(target)) && partOf(file) !== partOf(target);
}

it('has no circular imports, types included', () => {
  expect(findCycles()).toEqual([]);
});

/** Files in import cycles, each with the other files of its cycles. */
function findCycles(): string[] {
  const targetsOf = new Map<string, string[]>();
  for (const { file, target } of relativeImports) targetsOf.set(file, [...(targetsOf.get(file) ?? []), target]);
  const reachedFrom = (start: string) => {
    const reached = new Set<string>();
    const pending = [...(targetsOf.get(start) ?? [])];
    for (let file = pending.pop(); file !== undefined; file = pending.pop()) {
      if (reached.has(file)) continue;
      reached.add(file);
      pending.push(...(targetsOf.get(file) ?? []));
    }
    return reached;
  };
  const reached = new Map([...targetsOf.keys()].map((file) => [file, reachedFrom(file)]));
  return [...reached].flatMap(([file, others]) => {
    if (!others.has(file)) return [];
    const cycle = [...others].filter((other) => reached.get(other)?.has(file));
    return [`${file} <-> ${cycle.join(', ')}`];
  });
}
