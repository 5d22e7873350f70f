import type { PageAssets } from './format-report-page.js';

/** Defined by the build (see tsup.config.ts); undefined in a run from source. */
declare const PAGE_SCRIPT: string;
declare const PAGE_STYLE: string;

/** Script and style sheet of the report page. */
export async function loadPageAssets(): Promise<PageAssets> {
  // One expression: the build folds it and leaves the bundler out.
  return typeof PAGE_SCRIPT === 'undefined'
    ? (await import('../../scripts/build-page.js')).buildPage()
    : { script: PAGE_SCRIPT, style: PAGE_STYLE };
}
