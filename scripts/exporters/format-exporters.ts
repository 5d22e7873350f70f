import type { CaseRun, Way } from './try-case.js';

/** What is kept of one model. */
export interface Entry {
  readonly exporter: string | undefined;
  readonly opset: number | undefined;
  readonly special: string | undefined;
  readonly runs: Readonly<Record<Way, CaseRun>>;
}

const [BEGIN, END] = ['<!-- made by npm run exporters -- --write -->', '<!-- end of what it makes -->'];

/** Exporters as the models' names call them, with their versions run together: `genai018`. */
const EXPORTERS: Readonly<Record<string, string>> = {
  genai: 'genai',
  optimum: 'optimum',
  dynamo: 'dynamo',
  // At opset 20.
  dyn20: 'dynamo',
  transformersjs: 'transformers.js',
  mobius: 'Mobius',
  community: 'onnx-community',
};

/** Exporters by family, or families by exporter. */
type Models = Map<string, Set<string>>;

/** Lists exporters by pruned families, then reasons for modules that are not pruned and models that are refused. */
export function formatExporters(entries: Readonly<Record<string, Entry>>): string {
  const works: Models = new Map();
  const reasons = new Map<string, Models>();
  for (const [name, { runs }] of Object.entries(entries)) {
    const { family, exporter, version } = readName(name);
    if (runs['FFN and heads'].outcome === 'works') add(works, family, [exporter, version].filter(Boolean).join('@'));
    for (const reason of reasonsOf(name, runs)) {
      const models = reasons.get(reason) ?? new Map();
      reasons.set(reason, add(models, exporter, family));
    }
  }
  const families: Models = new Map();
  for (const [family, exporters] of works) add(families, [...exporters].sort().join(', '), family);
  const pruned = [...families].map(([exporters, alike]) => `- **${[...alike].join(', ')}**: ${exporters}`);
  const why = [...reasons].map(([reason, models]) => `- **${reason}**: ${listModels(models)}`);
  return [...pruned.sort(), '', 'Refused, or not pruned whole:', '', ...why.sort()].join('\n');
}

function add(models: Models, key: string, value: string): Models {
  return models.set(key, (models.get(key) ?? new Set()).add(value));
}

/** Reason why a model is refused, or a part of it is not pruned. */
function reasonsOf(name: string, { 'FFN and heads': whole, 'attention alone': attention }: Entry['runs']): string[] {
  if (whole.outcome !== 'works') return [`refused: ${firstClause(whole.reason, name)}`];
  const staying = whole.remarks.flatMap(readStaying);
  const reasons = staying.map(({ kind, why }) => `${kind} not pruned: ${firstClause(why, name)}`);
  if (staying.length === 0 && attention.outcome !== 'works')
    reasons.push(`attention alone is refused: ${firstClause(attention.reason, name)}`);
  if (!whole.opened) reasons.push('pruned, but ONNX Runtime on a CPU runs it only with operators written out');
  return reasons;
}

const listModels = (models: Models): string =>
  [...models].map(([exporter, families]) => `${exporter}: ${[...families].join(', ')}`).join('; ');

function readStaying(remark: string): readonly { readonly kind: string; readonly why: string }[] {
  const [, kind, why] = /^blocks? [\d, -]+ ([a-z][\w -]*): stays as it is; .*?: (.*)$/.exec(remark) ?? [];
  return kind === undefined || why === undefined ? [] : [{ kind, why }];
}

/** The beginning of a reason, without the names and places in it, which differ from model to model. */
function firstClause(reason: string, name: string): string {
  return reason
    .replace(/^(\d+ modules|nothing) .*?; blocks? [\d, -]+/, '')
    .replace(/^"[^"]*"/, 'a value')
    .replaceAll(/ by "[^"]*"/g, ' by a value')
    .replaceAll(/ ?"[^"]*"/g, '')
    .replaceAll(/\S*\/(\S+)/g, '$1')
    .replaceAll(name, 'the model')
    .replace(/^\S+: (its weights are quantised).*/, '$1')
    .split(/; |\. |: config\.json|: prune with| \((?!cpu)/)[0]!
    .replaceAll('|', '\\|');
}

/** `llama-genai018prunedlmhead-fp32` is a Llama by genai 0.18. */
function readName(name: string) {
  const [family = '', tool = ''] = name.split('-');
  const known = Object.keys(EXPORTERS).find((start) => tool.startsWith(start)) ?? '';
  const [digits = ''] = /^\d*/.exec(tool.slice(known.length)) ?? [];
  return { family, exporter: EXPORTERS[known] ?? tool, version: dotted(digits) };
}

/** `018` is 0.18, `215` is 2.15. */
const dotted = (digits: string): string => (digits === '' ? '' : `${digits[0]}.${digits.slice(1)}`);

/** Puts a text between its marks. @throws Error for a page without them. */
export function putBetweenMarks(page: string, text: string): string {
  const [start, end] = [page.indexOf(BEGIN), page.indexOf(END)];
  if (start < 0 || end < start) throw new Error(`the page has no marks ${BEGIN} and ${END}`);
  return `${page.slice(0, start + BEGIN.length)}\n\n${text}\n\n${page.slice(end)}`;
}
