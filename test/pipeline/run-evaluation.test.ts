import { appendFile, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { OptionError } from '../../src/errors.js';
import { type EvaluateRequest, evaluateModels, logLikelihoods } from '../../src/node.js';
import { copyShortLlama, SHORT_LLAMA } from '../support/short-llama.js';
import { useTemporaryFolder } from '../support/temporary-folder.js';
import { TINY_LLAMA } from '../support/tiny-llama.js';

const folder = useTemporaryFolder();
const at = (path: string) => join(folder(), path);
const ARITHMETIC = join(SHORT_LLAMA, 'tasks/arithmetic.jsonl');

/** Few items and little text, which take a second. */
async function smallRequest(): Promise<EvaluateRequest> {
  const text = (await readFile(join(SHORT_LLAMA, 'text/prose.txt'), 'utf8')).slice(0, 1500);
  await writeFile(at('prose.txt'), text);
  return {
    models: [SHORT_LLAMA],
    texts: [at('prose.txt')],
    tasks: [ARITHMETIC],
    limit: 40,
    windowLength: 64,
    windowCount: 4,
  };
}

/** Aborts a run at its nth progress event. */
function stopAfter(count: number): EvaluateRequest {
  const control = new AbortController();
  let eventCount = 0;
  const onProgress = () => {
    if (++eventCount === count) control.abort();
  };
  return { models: [], onProgress, signal: control.signal };
}

describe('evaluateModels', () => {
  it('measures on the texts of a .jsonl file, not on its lines', async () => {
    const { texts, tasks: _, limit: __, ...request } = await smallRequest();
    const parts = (await readFile(texts![0]!, 'utf8')).split('\n\n');
    await writeFile(at('prose.jsonl'), parts.map((text) => `${JSON.stringify({ text })}\n`).join(''));
    const measured = async (text: string) => (await evaluateModels({ ...request, texts: [text] }))[0]!.perplexity;
    expect(await measured(at('prose.jsonl'))).toEqual([
      { ...(await measured(texts![0]!))[0], text: at('prose.jsonl') },
    ]);
    await writeFile(at('ids.jsonl'), '{"text":"a"}\n{"input_ids":[1,2,3]}\n');
    const refused = evaluateModels({ ...request, texts: [at('ids.jsonl')] });
    await expect(refused).rejects.toThrow(OptionError);
    await expect(refused).rejects.toThrow(/ids\.jsonl: line 2 contains token ids \("input_ids"\); expected a text/);
  });

  it('resumes after aborts, to the figures of one run', async () => {
    const request = { ...(await smallRequest()), reference: await copyShortLlama(at('reference')) };
    const whole = await evaluateModels(request);
    expect(whole).toMatchObject([
      {
        model: SHORT_LLAMA,
        perplexity: [{ text: at('prose.txt'), windowCount: 4 }],
        divergence: [{ text: at('prose.txt'), reference: at('reference'), klDivergence: 0, top1Agreement: 1 }],
        tasks: [{ file: ARITHMETIC, kind: 'multiple-choice', itemCount: 40, protocol: { delimiter: ' ', bos: true } }],
      },
    ]);
    const resume = at('scores/kept.jsonl');
    for (const count of [2, 4, 3, 8]) {
      const stopped = { ...request, ...stopAfter(count), models: request.models, resume };
      await expect(evaluateModels(stopped)).rejects.toThrow(/abort/i);
    }
    const kept = (await readFile(resume, 'utf8')).split('\n').length;
    expect(kept).toBeGreaterThan(5);
    // A truncated line is measured again.
    await appendFile(resume, '{"run":2,"index":3');
    expect(await evaluateModels({ ...request, resume })).toEqual(whole);
    const { size } = await stat(resume);
    expect(await evaluateModels({ ...request, resume })).toEqual(whole);
    expect((await stat(resume)).size).toBe(size);
  });

  it('cuts windows that every model can read, and refuses longer ones', async () => {
    const { texts } = await smallRequest();
    const brief = await copyShortLlama(at('brief'));
    const config = JSON.parse(await readFile(join(brief, 'config.json'), 'utf8')) as object;
    await writeFile(join(brief, 'config.json'), JSON.stringify({ ...config, max_position_embeddings: 40 }));
    const found = await evaluateModels({ models: [SHORT_LLAMA, brief], texts, windowCount: 2 });
    for (const { perplexity } of found) {
      const { windowLength, leadingTokens = [] } = perplexity[0]!.protocol;
      expect(windowLength + leadingTokens.length).toBe(40);
    }
    const long = { models: [SHORT_LLAMA, brief], texts, windowLength: 64 };
    await expect(evaluateModels(long)).rejects.toThrow(/windowLength is 64, but the model reads at most 40 tokens/);
    const alone = await evaluateModels({ models: [SHORT_LLAMA], texts, windowCount: 2 });
    expect(alone[0]!.perplexity[0]!.protocol.windowLength).toBeGreaterThan(100);
  });

  it('adds further items of a task to its scores', async () => {
    const resume = at('kept.jsonl');
    const request = { models: [SHORT_LLAMA], tasks: [ARITHMETIC], resume };
    await evaluateModels({ ...request, limit: 4 });
    const [more] = await evaluateModels({ ...request, limit: 8 });
    expect(more!.tasks[0]!.answers.map(({ index }) => index)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });

  it('refuses a file of other scores, and does not change it', async () => {
    const resume = at('kept.jsonl');
    const request = { models: [SHORT_LLAMA], tasks: [ARITHMETIC], limit: 2, resume };
    await evaluateModels(request);
    const kept = await readFile(resume, 'utf8');
    const other = await copyShortLlama(at('other'), (proto) => {
      proto.graph!.name = 'another';
    });
    const refusals: [Partial<EvaluateRequest>, RegExp][] = [
      [
        { models: [other] },
        /kept.jsonl has the scores of another evaluation \(.*arithmetic.jsonl on .*other\): modelSha256/,
      ],
      [
        { tasks: [join(SHORT_LLAMA, 'tasks/prose.jsonl')] },
        /sourceSha256 [0-9a-f]{12}\.\.\. \(now [0-9a-f]{12}\.\.\.\)/,
      ],
      [{ delimiter: '' }, /delimiter " " \(now ""\)/],
      [{ models: [SHORT_LLAMA, other] }, /has 1 measurements, not 2/],
    ];
    for (const [change, message] of refusals) {
      const evaluating = evaluateModels({ ...request, ...change });
      await expect(evaluating).rejects.toThrow(OptionError);
      await expect(evaluating).rejects.toThrow(message);
    }
    expect(await readFile(resume, 'utf8')).toBe(kept);
  });

  it('refuses the divergences from another reference', async () => {
    const { tasks: _, limit: __, ...request } = { ...(await smallRequest()), windowCount: 1, resume: at('kept.jsonl') };
    await evaluateModels({ ...request, reference: await copyShortLlama(at('reference')) });
    const other = await copyShortLlama(at('other'), (proto) => {
      proto.graph!.name = 'another';
    });
    const evaluating = evaluateModels({ ...request, reference: other });
    await expect(evaluating).rejects.toThrow(OptionError);
    await expect(evaluating).rejects.toThrow(/kept\.jsonl has the scores of another evaluation .*: referenceSha256/);
  });

  it.each([
    ['text', 'once upon a time', /does not begin like a file of scores/],
    ['other JSON', '{"text":"a"}\n', /does not begin like a file of scores/],
    ['another format', '{"scores":{"format":0,"runs":[]}}\n', /is of format 0, expected 1/],
  ])('refuses to write scores into a file of %s', async (_, content, message) => {
    const resume = at('precious.txt');
    await writeFile(resume, content);
    const request = { models: [SHORT_LLAMA], tasks: [ARITHMETIC], limit: 2, resume };
    await expect(evaluateModels(request)).rejects.toThrow(message);
    expect(await readFile(resume, 'utf8')).toBe(content);
  });

  it('names the line of a damaged score', async () => {
    const resume = at('kept.jsonl');
    const request = { models: [SHORT_LLAMA], tasks: [ARITHMETIC], limit: 2, resume };
    await evaluateModels(request);
    const kept = await readFile(resume, 'utf8');
    for (const [line, message] of [
      ['{"run":9,"index":0}', /kept.jsonl line 4 is not a score: expected a run below 1/],
      ['{"run":0,"index":0}', /line 4 is not a score of a task: gold is missing/],
      ['{"run":null,"index":0}', /line 4 is not a score: expected a run below 1/],
      [
        '{"run":0,"index":0,"gold":0,"logLikelihoods":["-1"],"isGreedy":[true],"characterCounts":[1],"tokenCounts":[1]}',
        /line 4 is not a score of a task: logLikelihoods is \["-1"\]/,
      ],
      ['nonsense', /line 4 is not JSON/],
    ] as const) {
      await writeFile(resume, `${kept}${line}\n`);
      await expect(evaluateModels(request)).rejects.toThrow(message);
    }
  });

  it('measures again if scores do not fit the items', async () => {
    const resume = at('kept.jsonl');
    const request = { models: [SHORT_LLAMA], tasks: [ARITHMETIC], limit: 2, resume };
    const [evaluation] = await evaluateModels(request);
    const kept = await readFile(resume, 'utf8');
    await writeFile(
      resume,
      kept
        .replace(/"logLikelihoods":\[[^\]]*\]/, '"logLikelihoods":[-1]')
        .replace(/"gold":\d/, '"gold":0')
        .replace(/"isGreedy":\[[^\]]*\]/, '"isGreedy":[true]')
        .replace(/"characterCounts":\[[^\]]*\]/, '"characterCounts":[1]')
        .replace(/"tokenCounts":\[[^\]]*\]/, '"tokenCounts":[1]'),
    );
    expect(await evaluateModels(request)).toEqual([evaluation]);
  });

  it('refuses requests without a model, or without valid texts or items', async () => {
    await writeFile(at('short.txt'), 'The river runs.');
    await writeFile(at('empty.jsonl'), '\n');
    const refusals: [EvaluateRequest, RegExp][] = [
      [{ models: [], tasks: [ARITHMETIC] }, /no model to evaluate/],
      [{ models: [SHORT_LLAMA] }, /nothing to measure/],
      [{ models: [SHORT_LLAMA], texts: [], tasks: [] }, /nothing to measure/],
      [
        { models: [SHORT_LLAMA], texts: [at('short.txt')], windowLength: 64 },
        /short.txt: found \d tokens, and one window needs 64/,
      ],
      [{ models: [SHORT_LLAMA], tasks: [at('empty.jsonl')] }, /empty.jsonl has no items/],
      [{ models: [SHORT_LLAMA], tasks: [at('none.jsonl')] }, /^Cannot read [^:]*none.jsonl: there is no such file/],
      [{ models: [SHORT_LLAMA], tasks: [ARITHMETIC], limit: 0 }, /limit is 0/],
      [{ models: [SHORT_LLAMA], tasks: [ARITHMETIC], reference: SHORT_LLAMA }, /needs texts to compare/],
    ];
    for (const [request, message] of refusals) {
      const evaluating = evaluateModels(request);
      await expect(evaluating).rejects.toThrow(OptionError);
      await expect(evaluating).rejects.toThrow(message);
    }
  });
});

describe('logLikelihoods', () => {
  it('measures texts of a model folder', async () => {
    const context = '12 + 3 = 15\n20 + 4 = 24\n31 + 5 =';
    const pairs = [' 36', ' 91'].map((continuation) => ({ context, continuation }));
    const [right, wrong] = await logLikelihoods({ model: TINY_LLAMA, pairs });
    expect(right!.logLikelihood).toBeGreaterThan(wrong!.logLikelihood);
    expect(right!.tokenCount).toBeGreaterThan(0);
  });
});
