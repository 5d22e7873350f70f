/** Bundles the report page's script and style sheet; `tsup.config.ts` compiles them in, runs from source do it again. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, type Metafile, type Plugin } from 'esbuild';
import type { PageAssets } from '../src/report/format-report-page.js';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** Assets, and the packages whose code is in them. */
export interface BuiltPage extends PageAssets {
  readonly packages: readonly string[];
}

/** Leaves out a ninth of the script: Plot imports d3-geo for maps, which reports do not have. */
const WITHOUT_MAPS: Plugin = {
  name: 'without-maps',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^d3-geo$/ }, () => ({ path: 'd3-geo', namespace: 'without-maps', sideEffects: false }));
    onLoad({ filter: /^/, namespace: 'without-maps' }, () => {
      const source = readFileSync(join(ROOT, 'node_modules/d3-geo/dist/d3-geo.mjs'), 'utf8');
      const names = new Set(source.match(/\bgeo[A-Z]\w*/g));
      return { contents: Array.from(names, (name) => `export const ${name} = () => {};`).join('\n') };
    });
  },
};

let built: Promise<BuiltPage> | undefined;

/** Bundles everything the page needs into two texts, with the notices of whose code is in them; once a process. */
export function buildPage(): Promise<BuiltPage> {
  built ??= bundlePage();
  return built;
}

async function bundlePage(): Promise<BuiltPage> {
  const { outputFiles, metafile } = await build({
    absWorkingDir: ROOT,
    entryPoints: ['src/report/page/main.ts'],
    plugins: [WITHOUT_MAPS],
    bundle: true,
    minify: true,
    format: 'iife',
    target: 'es2022',
    charset: 'utf8',
    legalComments: 'none',
    write: false,
    metafile: true,
    outdir: 'page',
    logLevel: 'warning',
  });
  const text = (ending: string) => outputFiles.find(({ path }) => path.endsWith(ending))?.text.trim() ?? '';
  const packages = packagesIn(metafile);
  return { script: `/*\n${noticesOf(packages)}*/\n${text('.js')}`, style: text('.css'), packages };
}

function packagesIn({ outputs }: Metafile): string[] {
  const used = Object.values(outputs).flatMap(({ inputs }) =>
    Object.entries(inputs).flatMap(([path, { bytesInOutput }]) => (bytesInOutput > 0 ? [path] : [])),
  );
  const names = used.flatMap((path) => path.match(/node_modules\/((?:@[^/]+\/)?[^/]+)/)?.[1] ?? []);
  return [...new Set(names)].sort();
}

/** Copyright lines by package, then each licence text once: a page carries a copy of their code. */
function noticesOf(packages: readonly string[]): string {
  const texts = new Set<string>();
  const owners = packages.map((name) => {
    const folder = join(ROOT, 'node_modules', name);
    const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
    if (file === undefined) throw new Error(`${name} has no licence file; the page may not contain its code`);
    const lines = readFileSync(join(folder, file), 'utf8').trim().split('\n');
    const isOwner = (line: string) => /^(copyright\b.*\d{4}|\(c\))/i.test(line.trim());
    texts.add(
      lines
        .filter((line) => !isOwner(line))
        .join(' ')
        .replace(/\s+/g, ' ')
        .trim(),
    );
    return `${name}: ${lines.filter(isOwner).join(' ').trim()}`;
  });
  return `${[...owners, ...texts].join('\n').replaceAll('*/', '* /')}\n`;
}
