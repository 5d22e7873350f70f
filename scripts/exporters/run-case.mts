/** Tries one model folder in every way, in this process, and prints the results as JSON. */
import { type CaseRun, tryCase, WAYS, type Way } from './try-case.js';

const [folder = ''] = process.argv.slice(2);
const runs: Partial<Record<Way, CaseRun>> = {};
for (const way of Object.keys(WAYS) as Way[]) {
  runs[way] = await tryCase({ name: '', folder, exporter: undefined, opset: undefined, special: undefined }, way);
}
process.stdout.write(JSON.stringify(runs));
