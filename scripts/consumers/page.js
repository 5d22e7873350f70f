// What every page does, however it was built: fetch a model, prune it, say what came of it.
import { prune } from 'fang-prune';

const PATHS = ['config.json', 'generation_config.json', 'onnx/model.onnx', 'tokenizer.json', 'tokenizer_config.json'];

export async function pruneHere() {
  const read = async (path) => new Uint8Array(await (await fetch(`/model/${path}`)).arrayBuffer());
  const dense = new Map(await Promise.all(PATHS.map(async (path) => [path, await read(path)])));
  const smaller = new Map();
  const { parameters, environment } = await prune({
    model: dense,
    out: smaller,
    sparsity: 0.3,
    method: 'flap',
    calibration: { windowCount: 4, windowLength: 64 },
  });
  return { parameters, environment, files: [...smaller.keys()] };
}

/** What the script that opened the page waits for. */
export async function show() {
  globalThis.seen = await pruneHere().catch((error) => ({ error: String(error?.stack ?? error) }));
  document.body.textContent = JSON.stringify(globalThis.seen);
}
