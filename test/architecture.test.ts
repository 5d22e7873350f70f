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
  ['errors', 'free-bytes', 'ignore-rejection', 'omit', 'progress', 'error-message', 'version'],
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
 * Stages know each other's data, not each other's code; an adapter is a score and the repair that fits it, and an allocation
 * may go by a score of its own.
 */
const SHARED_BY_STAGES = [
  ['compensation', 'importance'],
  ['allocation', 'compensation'],
  ['allocation', 'importance'],
];

/** The only places that may know a platform: its own folder, and the terminal. */
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

it('imports point down only', () => {
  const isAllowed = ({ file, target }: Import) =>
    partOf(file) === partOf(target) || isBetweenStages(file, target) || layerOf(target) < layerOf(file);
  expect(relativeImports.filter((found) => !isAllowed(found)).map(show)).toEqual([]);
});

it('stages import only types from one another', () => {
  const isAllowed = ({ file, target, isTypeOnly }: Import) =>
    isTypeOnly || SHARED_BY_STAGES.some(([from, to]) => partOf(file) === from && partOf(target) === to);
  const between = relativeImports.filter(({ file, target }) => isBetweenStages(file, target));
  expect(between.filter((found) => !isAllowed(found)).map(show)).toEqual([]);
});

it('only the ports of a platform know it', () => {
  const isPlatform = ({ target }: Import) => target.startsWith('node:') || PLATFORM_MODULES.includes(target);
  const outside = imports.filter(({ file }) => !PLATFORM_FILES.test(file));
  expect(outside.filter(isPlatform).map(show)).toEqual([]);
});

it('only the command line knows how to talk to people', () => {
  const talkers = ['commander', 'fast-string-truncated-width', 'cli-table3', 'picocolors'];
  const outside = imports.filter(({ file }) => partOf(file) !== 'cli');
  expect(outside.filter(({ target }) => talkers.includes(target)).map(show)).toEqual([]);
});

function isBetweenStages(file: string, target: string): boolean {
  return STAGES.includes(partOf(file)) && STAGES.includes(partOf(target)) && partOf(file) !== partOf(target);
}

it('no import leads back to where it came from, types included', () => {
  expect(findCircles()).toEqual([]);
});

/** Files that reach themselves, each with the files that it reaches and that reach it. */
function findCircles(): string[] {
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
    const circle = [...others].filter((other) => reached.get(other)?.has(file));
    return [`${file} <-> ${circle.join(', ')}`];
  });
}
