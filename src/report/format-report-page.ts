import { sha256 } from '../calibration/sha256.js';
import type { PruneReport } from './report-schema.js';

/** Script and style sheet of the page. */
export interface PageAssets {
  readonly script: string;
  readonly style: string;
}

/**
 * Formats a report as one HTML page that needs no network. Its content security policy allows neither other files nor
 * other scripts, since reports quote texts.
 */
export async function formatReportPage(report: PruneReport, { script, style }: PageAssets): Promise<string> {
  const title = escapeHtml(`Pruning report: ${report.model}`);
  const policy = `default-src 'none'; script-src 'sha256-${await sha256Base64(script)}'; style-src 'unsafe-inline'; img-src data:`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${title}</title>
<style>${style}</style>
</head>
<body>
<a class="skip" href="#content">Skip to the report</a>
<main id="content">
<h1>${title}</h1>
<noscript><p>This page draws its report with a script. The same figures are in the .json file next to it.</p></noscript>
</main>
<footer>Written by fang-prune ${escapeHtml(report.version)}. Quoted texts come from the calibration text.</footer>
<script type="application/json" id="report">${embedJson(forPage(report))}</script>
<script>${script}</script>
</body>
</html>
`;
}

/** Removes long lists that the page does not show: remaining neurons and members of groups. */
function forPage(report: PruneReport): PruneReport {
  return {
    ...report,
    modules: report.modules.map(({ keep, groups, ...module }) => ({
      ...module,
      keep: module.kind === 'ffn' ? [] : keep,
      ...(groups && { groups: groups.map((group) => ({ ...group, members: [] })) }),
    })),
  };
}

/** SHA-256 in base64, for a content security policy. */
async function sha256Base64(text: string): Promise<string> {
  const bytes = (await sha256(text)).match(/../g) ?? [];
  return btoa(String.fromCharCode(...bytes.map((byte) => Number.parseInt(byte, 16))));
}

/** JSON that cannot close its script element. */
function embedJson(value: unknown): string {
  return JSON.stringify(value).replaceAll('<', '\\u003c');
}

function escapeHtml(text: string): string {
  const entities: Readonly<Record<string, string>> = {
    '&': '&amp;',
    '<': '&lt;',
    '>': '&gt;',
    '"': '&quot;',
    "'": '&#39;',
  };
  return text.replace(/[&<>"']/g, (character) => entities[character]!);
}
