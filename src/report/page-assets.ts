import type { PageAssets } from './format-report-page.js';

/** Put here by the build (see tsup.config.ts); a run from source knows neither. */
declare const PAGE_SCRIPT: string;
declare const PAGE_STYLE: string;

/** Script and style sheet of the report page. */
export async function loadPageAssets(): Promise<PageAssets> {
  // One expression: the build folds it and leaves the bundler out.
  return typeof PAGE_SCRIPT === 'undefined'
    ? (await import('../../scripts/build-page.js')).buildPage()
    : { script: PAGE_SCRIPT, style: PAGE_STYLE };
}
