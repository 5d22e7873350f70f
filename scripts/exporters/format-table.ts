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
  genai: 'onnxruntime-genai builder',
  optimum: 'optimum-onnx',
  dynamo: 'torch.onnx dynamo',
  transformersjs: "transformers.js' conversion",
  mobius: 'Mobius',
  community: 'onnx-community layout',
};

/** One row a family and exporter: which of its models are pruned, and why others are not. */
export function formatTable(entries: Readonly<Record<string, Entry>>): string {
  const rows = new Map<string, Row>();
  for (const [name, entry] of Object.entries(entries)) {
    const { family, exporter, variant } = readName(name);
    const key = `${family} | ${exporter}`;
    const row = rows.get(key) ?? { works: [], stays: new Map(), refused: new Map() };
    rows.set(key, row);
    addTo(row, variant, entry);
  }
  const lines = [...rows].map(([key, row]) => `| ${key} | ${cells(row).join(' | ')} |`).sort();
  return [
    '| family | exporter | pruned, and opened anew | what stays | refused |',
    '| --- | --- | --- | --- | --- |',
    ...lines,
  ].join('\n');
}

interface Row {
  /** Names of models that work. */
  readonly works: string[];
  /** Names of models by what of them stays, and by why they are refused. */
  readonly stays: Map<string, string[]>;
  readonly refused: Map<string, string[]>;
}

function addTo({ works, stays, refused }: Row, variant: string, { runs }: Entry): void {
  const { 'FFN and heads': whole, 'attention alone': attention } = runs;
  if (whole.outcome !== 'works') {
    push(refused, tellAlike(whole.reason), variant);
    return;
  }
  works.push(whole.opened ? variant : `${variant}*`);
  for (const remark of whole.remarks) {
    const [, kind, why] = /^blocks? [\d, -]+ (\w+): stays as it is; .*?: (.*)$/.exec(tellAlike(remark)) ?? [];
    if (kind !== undefined) push(stays, `${kind} (${why})`, variant);
  }
  const isTold = [...stays.values()].some((variants) => variants.includes(variant));
  if (attention.outcome !== 'works' && !isTold)
    push(refused, `attention alone: ${tellAlike(attention.reason)}`, variant);
}

function push(lists: Map<string, string[]>, key: string, variant: string): void {
  lists.set(key, [...new Set([...(lists.get(key) ?? []), variant])]);
}

function cells({ works, stays, refused }: Row): string[] {
  const list = (found: ReadonlyMap<string, readonly string[]>) =>
    [...found].map(([what, variants]) => `${variants.join(', ')}: ${what}`).join('; ');
  const staying = [...stays].map(([what, { length }]) => (length === works.length ? what : undefined));
  const isAlike = staying.every((what) => what !== undefined);
  return [works.join(', '), isAlike ? staying.join('; ') : list(stays), list(refused)];
}

/** A reason without the names and places in it, which differ from model to model. */
function tellAlike(reason: string): string {
  const said = reason.replaceAll(/ ?"[^"]*"/g, '').replaceAll(/\S*\/(\S+)/g, '$1');
  return said.replaceAll('|', '\\|').replaceAll('\n', ' ');
}

/** `llama-genai018prunedlmhead-fp32` is a Llama by genai 0.18, a variant called `prunedlmhead fp32`. */
function readName(name: string) {
  const [family = '', tool = '', ...rest] = name.split('-');
  const known = Object.keys(EXPORTERS).find((start) => tool.startsWith(start)) ?? '';
  const [, digits = '', own = ''] = /^(\d*)(.*)$/.exec(tool.slice(known.length)) ?? [];
  const exporter = [EXPORTERS[known] ?? tool, dotted(digits)].filter(Boolean).join(' ');
  return { family, exporter, variant: [own, ...rest].filter(Boolean).join(' ') || 'fp32' };
}

/** `018` is 0.18, `215` is 2.15. */
const dotted = (digits: string): string => (digits === '' ? '' : `${digits[0]}.${digits.slice(1)}`);

/** Puts a table between its marks. @throws Error for a page without them. */
export function putTable(page: string, table: string): string {
  const [start, end] = [page.indexOf(BEGIN), page.indexOf(END)];
  if (start < 0 || end < start) throw new Error(`the page has no marks ${BEGIN} and ${END}`);
  return `${page.slice(0, start + BEGIN.length)}\n\n${table}\n\n${page.slice(end)}`;
}
