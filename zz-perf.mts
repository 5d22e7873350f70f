import { readFileSync } from 'node:fs';
import { openModelFolder } from './src/node.js';
import { createNodeEngine } from './src/platform/node/node-engine.js';
import { nodePlatform } from './src/platform/node/node-platform.js';
import { analyseModel } from './src/runtime/analyse-model.js';
import { healModel } from './src/healing/heal-model.js';
import { pruneModel } from './src/prune/prune-model.js';
import { resolveOptions } from './src/options.js';
import { createMemoryStore, createSpilledStore } from './src/runtime/tensor-store.js';
import { storeInMemory } from './src/removal/repair-linear.js';
const N = Number(process.argv[2] ?? 8), H = Number(process.argv[3] ?? 2);
const windows = readFileSync('/tmp/heal-data/windows.jsonl','utf8').trim().split('\n').map(l=>JSON.parse(l)).map(o=>Int32Array.from(o.input_ids ?? o.tokens ?? o)).filter(w=>w.length===512);
console.log('windows', windows.length);
const engine = await createNodeEngine();
const folder = await openModelFolder('/tmp/smol/optimum');
const model = await folder.load();
const analysed = await analyseModel(model, engine);
const pruned = await pruneModel({ model, analysed, engine, windows: [], options: resolveOptions({ sparsity: 0.3, method: 'magnitude', modules: 'ffn' }), store: storeInMemory, createStore: createMemoryStore });
const student = { model: pruned.model, analysed: await analyseModel(pruned.model, engine) };
const cpu0 = process.cpuUsage(); let t0 = performance.now(); let last = '';
const stamp = (what: string) => { const c = process.cpuUsage(cpu0); console.log(what, ((performance.now()-t0)/1000).toFixed(1), 's wall', (c.user/1e6).toFixed(1), 'user', (c.system/1e6).toFixed(1), 'sys', (process.memoryUsage().rss/1e6).toFixed(0), 'rss', process.resourceUsage().maxRSS/1e3); };
let phases: Record<string, number> = {};
const h = await healModel({ engine, teacher: { model, analysed }, student, windows: windows.slice(0, N), heldOut: windows.slice(-H), settings: { trained: 'all', windowsPerStep: 4, passCount: 1, learningRate: undefined },
  createStore: async (bytes) => bytes > 16*2**20 ? createSpilledStore(await nodePlatform.createScratch()) : createMemoryStore(), store: storeInMemory,
  onProgress: (d, t, detail) => { if (detail !== last) { stamp(`${d}/${t} ${detail}`); last = detail; } } });
stamp('end'); console.log(JSON.stringify(h.report));
process.exit(0);
