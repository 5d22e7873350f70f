import { healModel } from '../../src/healing/heal-model.js';
import { createSpillFile } from '../../src/node/spill-file.js';
import { bytesHandle } from '../../src/onnx/tensor-handle.js';
import { createSpilledStore } from '../../src/runtime/tensor-store.js';
import { testEngine } from '../support/engine.js';
import { heldBytes } from '../support/held-bytes.js';
import { buildDecoder, HIDDEN, linear, type Part, VOCABULARY } from '../support/small-decoder.js';
import { loadTinyLlama, someWindows } from '../support/tiny-llama.js';

const NEURONS = 4096;
const wideFfn: Part = ({ g }, x) => linear(g, g.op('Relu', [linear(g, x, HIDDEN, NEURONS)]), NEURONS, HIDDEN);

it('keeps few blocks of a deep model in memory at once', async () => {
  const { model, analysed } = await loadTinyLlama(buildDecoder({ blockCount: 24, ffn: wideFfn }));
  const windows = someWindows(2, 16).map((window) => window.map((token) => token % VOCABULARY));
  const before = heldBytes();
  let most = 0;
  const { report } = await healModel({
    engine: testEngine,
    teacher: { model, analysed },
    student: { model, analysed },
    windows: windows.slice(0, 1),
    heldOut: windows.slice(1),
    settings: { trained: 'all', windowsPerStep: 1, passCount: 2, learningRate: 1e-6 },
    createStore: async () => createSpilledStore(await createSpillFile()),
    store: (shape, bytes) => bytesHandle(shape, bytes),
    onProgress: (done) => {
      if (done % 20 === 0) most = Math.max(most, heldBytes() - before);
    },
  });
  // Seven stores hold two blocks' lists each, of 24 blocks; in memory they would hold seven lists of all.
  expect(most).toBeLessThan(report.trainedCount * Float32Array.BYTES_PER_ELEMENT);
});
