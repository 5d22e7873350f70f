import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { Job } from 'bullmq';
import { compareEvaluations, type Evaluation, evaluateModels, type ProgressListener, pruneLadder } from 'fang-prune';
import type { Sweep } from './sweep.js';

export interface PruneData extends Pick<Sweep, 'sparsities' | 'calibration'> {
  readonly model: string;
  readonly method: Sweep['methods'][number];
  /** Gets a folder for each sparsity. */
  readonly out: string;
}

export interface EvaluateData extends Pick<Sweep, 'texts' | 'evaluation'> {
  /** The dense model. */
  readonly model: string;
  /** Absent: the dense model itself is measured. */
  readonly method?: string;
  /** Where the ladder lies; scores and figures are kept next to it. */
  readonly folder: string;
}

export interface TableData extends Pick<Sweep, 'models'> {
  readonly out: string;
}

/** What a ladder hands to those that wait for it. */
export interface Rung {
  readonly folder: string;
  readonly sparsity: number;
  readonly bytes: number;
}

/** What an evaluation hands to the table: a path to the figures, not the figures of every window. */
export interface Evaluated {
  readonly model: string;
  readonly method?: string;
  readonly rungs: readonly Rung[];
  readonly file: string;
}

interface Control {
  readonly onProgress: ProgressListener;
  readonly signal: AbortSignal;
}

/** What each kind of job does. A call runs in a process of its own, so that the worker can renew its hold on the job meanwhile. */
export const JOBS: Readonly<Record<string, (job: Job, control: Control) => Promise<unknown>>> = {
  async prune({ data }: Job<PruneData>, control): Promise<readonly Rung[]> {
    const { model, method, sparsities, calibration, out } = data;
    const request = {
      model,
      method,
      sparsity: sparsities,
      calibration,
      out,
      evaluation: false,
      isolate: true,
    } as const;
    const reports = await pruneLadder({ ...request, ...control });
    return reports.map(({ out: folder = out, sparsity, bytes }) => ({
      folder,
      sparsity: sparsity.requested,
      bytes: bytes.after,
    }));
  },

  async evaluate(job: Job<EvaluateData>, control): Promise<Evaluated> {
    const { model, method, folder, texts, evaluation } = job.data;
    const made = Object.values(await job.getChildrenValues<readonly Rung[]>()).flat();
    const models = method === undefined ? [model] : made.map((rung) => rung.folder);
    const file = `${folder}-evaluation.json`;
    await mkdir(dirname(file), { recursive: true });
    const found = await evaluateModels({
      models,
      texts,
      ...evaluation,
      resume: `${folder}-scores.jsonl`,
      isolate: true,
      ...control,
    });
    await writeWhole(file, JSON.stringify(found));
    return { model, ...(method !== undefined && { method }), rungs: made, file };
  },

  async table(job: Job<TableData>): Promise<string> {
    const evaluated = Object.values(await job.getChildrenValues<Evaluated>());
    const lines = [];
    for (const model of job.data.models) {
      const own = evaluated.filter((one) => one.model === model);
      const dense = own.find(({ method }) => method === undefined)!;
      const [reference] = await readEvaluations(dense);
      lines.push(formatRow(reference!, { model, method: 'dense', size: '', sparsity: '', verdict: '' }));
      for (const { method = '', rungs, file } of own.filter((one) => one !== dense).sort(byMethod)) {
        for (const [at, found] of (await readEvaluations({ file })).entries()) {
          const { sparsity, bytes } = rungs[at]!;
          const compared = compareEvaluations([reference!, found]);
          const worse = compared.filter(({ verdict }) => verdict === 'worse').length;
          const verdict = `${worse} of ${compared.length} texts`;
          const size = `${(bytes / 1e6).toFixed(1)} MB`;
          lines.push(formatRow(found, { model, method, sparsity: `${Math.round(100 * sparsity)} %`, size, verdict }));
        }
      }
    }
    const [first] = await readEvaluations(evaluated[0]!);
    const heads = first!.perplexity.map(({ text }) => basename(text));
    const table = [
      `| model | method | sparsity | size | ${heads.join(' | ')} | worse than dense on |`,
      `| ${Array.from({ length: 5 + heads.length }, () => '---').join(' | ')} |`,
      ...lines,
      '',
    ].join('\n');
    await writeWhole(join(job.data.out, 'table.md'), table);
    return table;
  },
};

const byMethod = (one: Evaluated, other: Evaluated) => (one.method ?? '').localeCompare(other.method ?? '');

const readEvaluations = async ({ file }: Pick<Evaluated, 'file'>): Promise<Evaluation[]> =>
  JSON.parse(await readFile(file, 'utf8')) as Evaluation[];

/** Whoever reads the file meanwhile reads the old one or the new one. */
async function writeWhole(path: string, text: string): Promise<void> {
  await writeFile(`${path}.new`, text);
  await rename(`${path}.new`, path);
}

type Row = Record<'model' | 'method' | 'sparsity' | 'size' | 'verdict', string>;

function formatRow({ perplexity }: Evaluation, { model, method, sparsity, size, verdict }: Row): string {
  const figures = perplexity.map((text) => text.perplexity.toFixed(2));
  return `| ${[basename(model), method, sparsity, size, ...figures, verdict].join(' | ')} |`;
}
