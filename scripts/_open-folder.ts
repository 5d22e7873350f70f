import fs from 'node:fs';
import path from 'node:path';
const src = (p: string) => ({ name: p, byteLength: fs.statSync(p).size, async read(o: number, l: number) { const fd = fs.openSync(p, 'r'); const b = new Uint8Array(l); fs.readSync(fd, b, 0, l, o); fs.closeSync(fd); return b; } });
export const openFolder = (dir: string) => ({ name: dir, open: async (q: string) => { const f = path.join(dir, q); return fs.existsSync(f) ? src(f) : undefined; } });
