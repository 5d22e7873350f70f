import { mountPlaces } from '../../src/web/mount-places.js';
import { FakeDirectory } from '../support/fake-directory.js';

const chosen = (webkitRelativePath: string) =>
  Object.defineProperty(new File(['text'], webkitRelativePath.split('/').pop()!), 'webkitRelativePath', {
    value: webkitRelativePath,
  });

it('mounts folders under their own name, or that of their option', () => {
  const [dense, smaller] = [new FakeDirectory('SmolLM2'), new Map()];
  const list = [chosen('llama/config.json'), chosen('llama/onnx/model.onnx')];
  const { request, folders } = mountPlaces({ model: dense, out: smaller, reference: list, recipe: 'recipes/one' });
  expect(request).toEqual({ model: '/SmolLM2', out: '/out', reference: '/llama', recipe: 'recipes/one' });
  expect(folders).toEqual({ SmolLM2: dense, out: smaller, llama: list });
});

it('mounts files under their option, with their own name', () => {
  const [text, task, model] = ['wiki.txt', 'items.jsonl', 'model.onnx'].map((name) => new File(['x'], name));
  const given = { models: [model, new Map()], texts: [text], tasks: [task], calibration: { source: { file: text } } };
  const { request, folders } = mountPlaces(given);
  expect(request).toEqual({
    models: ['/model/model.onnx', '/model-2'],
    texts: ['/texts/wiki.txt'],
    tasks: ['/tasks/items.jsonl'],
    calibration: { source: { file: '/texts/wiki.txt' } },
  });
  expect([...(folders.texts as Map<string, File>).values()]).toEqual([text]);
});

it('keeps all other options, and mounts no folder as opfs', () => {
  const rest = { sparsity: 0.3, engine: new (class Engine {})(), blockSparsity: new Map([[0, 0.5]]), start: [1] };
  const { request } = mountPlaces({ ...rest, model: new FakeDirectory('opfs') });
  expect(request).toEqual({ ...rest, model: '/opfs-2' });
});
