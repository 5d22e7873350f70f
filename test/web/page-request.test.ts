import type { BiasRequest, PerplexityRequest, PruneRequest, TasksRequest } from '../../src/pipeline/calls.js';
import { callInPage } from '../../src/web/call-in-page.js';
import type { InPage } from '../../src/web/page-request.js';
import { FakeDirectory } from '../support/fake-directory.js';

const text = new File(['text'], 'text.txt');
const request: InPage<PruneRequest> = { model: [text], out: new FakeDirectory('out'), sparsity: 0.3, embeddings: text };

it('accepts folders, files and paths where Node.js accepts paths', () => {
  const more: InPage<PruneRequest> = {
    ...request,
    model: 'dense',
    statistics: new Map(),
    recipe: 'recipes',
    calibration: { source: { file: text } },
    evaluation: { texts: [text, 'other.txt'] },
  };
  const tasks: InPage<TasksRequest> = { model: new Map(), file: text, resume: 'scores.jsonl' };
  const bias: InPage<BiasRequest> = { dense: new Map(), pruned: 'smaller', text };
  const perplexity: InPage<PerplexityRequest> = { model: new Map(), text };
  // @ts-expect-error A source's `text` is the text itself.
  const calibrated: InPage<PruneRequest> = { ...request, calibration: { source: { text } } };
  expect([bias.text, perplexity.text, Object(calibrated.calibration?.source).text]).toEqual([text, text, text]);
  expect([Object(more.evaluation).texts, tasks.resume]).toEqual([[text, 'other.txt'], 'scores.jsonl']);
});

it('has no options that pages lack, and refuses them', async () => {
  // @ts-expect-error ONNX Runtime Web has threads of its own.
  const threads: InPage<PruneRequest> = { ...request, out: new Map(), threads: 2 };
  // @ts-expect-error A file is no folder to write into.
  const out: InPage<PruneRequest> = { ...request, out: 3 };
  expect(out.out).toBe(3);
  const call = callInPage('prune', {
    ...threads,
    embeddings: undefined,
    model: new Map([['model.onnx', new Uint8Array(8)]]),
  });
  await expect(call).rejects.toMatchObject({ code: 'ERR_OPTION', option: 'threads' });
});
