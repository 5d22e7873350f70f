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
  transformersjs: 'transformers.js',
  mobius: 'Mobius',
  community: 'onnx-community',
};

/** Versions by exporter. */
type Exporters = Map<string, Set<string>>;

/** Kinds of parts that stay as they are, with the exporters where they do. */
type Staying = Map<string, Exporters>;

/** Counts of models by family. */
type Families = Map<string, number>;

interface Tables {
  /** Exporters whose models are pruned, by family. */
  readonly works: Map<string, Exporters>;
  /** By family. */
  readonly stays: Map<string, Staying>;
  /** By what is refused or stays, and why. */
  readonly reasons: Map<string, Families>;
}

/** One row a family: from which exporters it is pruned. Then one row a reason for what stays or is refused. */
export function formatTable(entries: Readonly<Record<string, Entry>>): string {
  const tables: Tables = { works: new Map(), stays: new Map(), reasons: new Map() };
  for (const [name, { runs }] of Object.entries(entries)) addTo(tables, name, runs);
  const { works, stays, reasons } = tables;
  const families = [...works].map(
    ([family, exporters]) => `| ${family} | ${listExporters(exporters)} | ${listStaying(stays.get(family))} |`,
  );
  const why = [...reasons].map(([reason, models]) => `| ${reason} | ${listFamilies(models)} |`);
  return [
    '| family | pruned from | stays as it is |',
    '| --- | --- | --- |',
    ...families.sort(),
    '',
    '| reason | models |',
    '| --- | --- |',
    ...why.sort(),
  ].join('\n');
}

function addTo({ works, stays, reasons }: Tables, name: string, runs: Entry['runs']): void {
  const { family, exporter, version } = readName(name);
  const { 'FFN and heads': whole, 'attention alone': attention } = runs;
  const tell = (reason: string) => {
    const families = entryOf(reasons, reason, () => new Map<string, number>());
    families.set(family, (families.get(family) ?? 0) + 1);
  };
  const addExporter = (exporters: Exporters) => entryOf(exporters, exporter, () => new Set()).add(version);
  if (whole.outcome !== 'works') {
    tell(`refused: ${firstClause(whole.reason, name)}`);
    return;
  }
  addExporter(entryOf(works, family, () => new Map()));
  const staying = whole.remarks.flatMap(readStaying);
  for (const { kind, why } of staying) {
    const kinds = entryOf(stays, family, () => new Map<string, Exporters>());
    addExporter(entryOf(kinds, kind, () => new Map()));
    tell(`stays (${kind}): ${firstClause(why, name)}`);
  }
  if (staying.length === 0 && attention.outcome !== 'works')
    tell(`attention alone is refused: ${firstClause(attention.reason, name)}`);
  if (!whole.opened) tell('pruned, but ONNX Runtime on a CPU runs it only with operators written out');
}

function entryOf<Value>(map: Map<string, Value>, key: string, start: () => Value): Value {
  const value = map.get(key) ?? start();
  map.set(key, value);
  return value;
}

const listExporters = (exporters: Exporters): string =>
  [...exporters].map(([name, versions]) => `${name} ${[...versions].filter(Boolean).join(', ')}`.trim()).join('; ');

const listStaying = (kinds: Staying = new Map()): string =>
  [...kinds].map(([kind, exporters]) => `${kind} (${listExporters(exporters)})`).join('; ');

const listFamilies = (families: Families): string =>
  [...families].map(([family, count]) => (count === 1 ? family : `${family} (${count})`)).join(', ');

function readStaying(remark: string): readonly { readonly kind: string; readonly why: string }[] {
  const [, kind, why] = /^blocks? [\d, -]+ (\w+): stays as it is; .*?: (.*)$/.exec(remark) ?? [];
  return kind === undefined || why === undefined ? [] : [{ kind, why }];
}

/** The beginning of a reason, without the names and places in it, which differ from model to model. */
function firstClause(reason: string, name: string): string {
  return reason
    .replace(/^\d+ modules .*?; blocks? [\d, -]+/, '')
    .replace(/^"[^"]*"/, 'a value')
    .replaceAll(/ ?"[^"]*"/g, '')
    .replaceAll(/\S*\/(\S+)/g, '$1')
    .replaceAll(name, 'the model')
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

/** Puts a table between its marks. @throws Error for a page without them. */
export function putTable(page: string, table: string): string {
  const [start, end] = [page.indexOf(BEGIN), page.indexOf(END)];
  if (start < 0 || end < start) throw new Error(`the page has no marks ${BEGIN} and ${END}`);
  return `${page.slice(0, start + BEGIN.length)}\n\n${table}\n\n${page.slice(end)}`;
}
