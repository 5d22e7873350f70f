import type { PruneReport } from '../report-schema.js';
import { atlasSection } from './atlas.js';
import { biasSection } from './bias.js';
import { blocksSection } from './blocks.js';
import { comparedRunsSection } from './compared-runs-section.js';
import { h } from './dom.js';
import { healingSection } from './healing.js';
import { ladderSection } from './ladder.js';
import { provenanceSection } from './provenance.js';
import { samplesSection } from './samples.js';
import { sizeSection } from './size.js';
import { costSection, header } from './summary.js';
import { topTokensSection } from './top-tokens.js';
import { vocabularySection } from './vocabulary.js';
import './page.css';

const report = JSON.parse(document.getElementById('report')?.textContent ?? '{}') as PruneReport;
const sections = [
  costSection(report),
  samplesSection(report),
  healingSection(report),
  sizeSection(report),
  vocabularySection(report),
  ladderSection(report),
  comparedRunsSection(report),
  blocksSection(report),
  topTokensSection(report),
  atlasSection(report),
  biasSection(report),
  provenanceSection(report),
].filter((found) => found !== undefined);
const contents = h(
  'nav',
  { 'aria-label': 'Contents' },
  h(
    'ul',
    {},
    ...sections.map(({ id, firstChild }) => h('li', {}, h('a', { href: `#${id}` }, firstChild?.textContent ?? id))),
  ),
);
document.querySelector('main')?.replaceChildren(header(report), contents, ...sections);
