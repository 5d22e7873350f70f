/** Prunes a model here and in a process of its own, goes on from a run that was cut off, and prints hashes of what was written. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { prune } from 'fang-prune';

const [model] = process.argv.slice(2);
const calibration = { windowCount: 4, windowLength: 64 };
const request = { model, sparsity: 0.3, method: 'o-fang', calibration };
const hashes = [];
const note = (out) =>
  hashes.push(
    createHash('sha256')
      .update(readFileSync(`${out}/onnx/model.onnx`))
      .digest('hex'),
  );

const { environment } = await prune({ ...request, out: 'here' });
note('here');
await prune({ ...request, out: 'apart', isolate: true });
note('apart');

const abortion = new AbortController();
const onProgress = ({ stage }) => stage === 'save' && abortion.abort(new Error('cut off'));
const cut = await prune({ ...request, out: 'cut', onProgress, signal: abortion.signal }).catch(
  (error) => error.message,
);
const isKept = existsSync('cut.partial');
await prune({ ...request, out: 'cut' });
note('cut');
const wrong = await prune({ ...request, out: 'wrong', signal: {} }).catch((error) => error.code);
console.log(JSON.stringify({ runtime: environment.runtime, hashes, cut, isKept, wrong }));
