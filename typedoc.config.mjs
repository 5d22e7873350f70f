// The documentation as one site: pages with a menu and a search, and the reference. `npm run docs` writes it to docs/api.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { Converter, PageEvent } from 'typedoc';

/** The menu: the way of a newcomer from top to bottom. A page that is named nowhere is listed under the last heading. */
const MENU = {
  'First steps': ['why', 'guide', 'supported-models', 'hub', 'browser'],
  'Better results': ['methods', 'healing', 'quantisation', 'sizes', 'evaluation'],
  'Look up': ['options', 'reliability'],
  Contributing: ['README', 'architecture', 'glossary', 'pipelines', 'dependencies'].map(
    (name) => `contributing/${name}`,
  ),
};
const REST = 'Research';

const pathOf = (name) => join('docs', `${name}.md`);
const named = Object.values(MENU)
  .flat()
  .filter((name) => existsSync(pathOf(name)));
const others = readdirSync('docs', { recursive: true })
  .filter((name) => name.endsWith('.md') && !name.startsWith('api'))
  .map((name) => name.slice(0, -'.md'.length))
  .filter((name) => !named.includes(name))
  .sort();

/** Pages are called by their first heading, and stand under the headings of the menu. */
function arrangePages(app) {
  app.converter.on(Converter.EVENT_CREATE_DOCUMENT, (_, page) => {
    const [, heading] = /^#\s+(.+)$/m.exec(page.content.map(({ text }) => text).join('')) ?? [];
    if (heading !== undefined) page.name = heading.replaceAll('`', '');
    const path = page.sources?.[0]?.fileName ?? app.files?.getReflectionPath?.(page) ?? '';
    const section = Object.entries(MENU).find(([, names]) => names.some((name) => path.endsWith(`docs/${name}.md`)));
    page.frontmatter.group = section?.[0] ?? REST;
  });
}

const { repository } = JSON.parse(readFileSync('package.json', 'utf8'));
const SOURCES = `${repository.url.replace(/^git\+|\.git$/g, '')}/blob/main/`;

/** The README's links are addresses on GitHub, for readers on npm; on the site they lead to its own pages. */
function keepLinksInside(app) {
  app.renderer.on(PageEvent.END, (page) => {
    const { router } = app.renderer;
    const urls = new Map(
      (page.project.documents ?? []).map((found) => [
        relative('.', app.files.getReflectionPath(found)),
        router.getFullUrl(found),
      ]),
    );
    const isLink = new RegExp(`href="${SOURCES.replaceAll('.', '\\.')}([^"#]+)`, 'g');
    page.contents = page.contents.replace(isLink, (link, path) => {
      const url = urls.get(path);
      return url === undefined ? link : `href="${router.baseRelativeUrl(page.model, url)}`;
    });
  });
}

/** @type {Partial<import('typedoc').TypeDocOptions>} */
export default {
  name: 'fang-prune',
  entryPoints: ['src/node.ts', 'src/web.ts', 'src/index.ts'],
  out: 'docs/api',
  readme: 'README.md',
  projectDocuments: [...[...named, ...others].map(pathOf), 'CHANGELOG.md'],
  plugin: [arrangePages, keepLinksInside],
  groupOrder: [...Object.keys(MENU), REST, '*'],
  sort: ['source-order'],
  navigation: { includeGroups: true, includeCategories: false, includeFolders: false },
  sortEntryPoints: false,
  headings: { readme: false },
  highlightLanguages: ['typescript', 'javascript', 'json', 'bash', 'sh', 'diff', 'html'],
  skipErrorChecking: true,
  customCss: 'scripts/site.css',
  // Names alone would hide the guides from whoever looks for what they are about.
  searchInDocuments: true,
  searchInComments: true,
  excludeInternal: true,
  excludePrivate: true,
  githubPages: false,
  disableGit: true,
  sourceLinkTemplate: 'https://www.npmjs.com/package/fang-prune?activeTab=code#{path}:{line}',
  validation: { notExported: false, invalidLink: true, notDocumented: false },
  treatValidationWarningsAsErrors: true,
};
