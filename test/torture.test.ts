import { findClashes } from '../scripts/torture/find-clashes.js';
import { KINDS } from '../scripts/torture/kinds.js';
import { tortureByMutants } from '../scripts/torture/mutants.js';
import { findLeaks } from '../scripts/torture/repeat-runs.js';

it('opens mutants of models and other files without crash, timeout, untyped error or wrong result', async () => {
  const kinds = Object.keys(KINDS);
  const shares = { ...Object.fromEntries(kinds.map((kind) => [kind, 1])), models: 10 };
  const said: string[] = [];
  const faults = await tortureByMutants({
    folders: ['test/fixtures/exporters/llama-genai018-fp32'],
    kinds,
    shares,
    count: kinds.length + 9,
    seed: 11,
    limits: { timeMs: 60_000, memoryBytes: 2 ** 29 },
    say: (line) => said.push(line),
  });
  expect(faults).toEqual([]);
  expect(said).toContainEqual(expect.stringMatching(/^\| outcome \| models \| /));
  expect(said).toContainEqual(expect.stringMatching(/^\| ERR_MODEL_FORMAT \| \d/));
}, 300_000);

describe('findClashes', () => {
  const allowed = { folder: '/home/me', places: ['/home/me/out/x', '/tmp/own'] };
  const clashCount = (...lines: readonly string[]) => findClashes(lines.join('\n'), allowed).length;

  it.each([
    '1 openat(AT_FDCWD</home/me>, "/home/me/out/x.partial/a", O_WRONLY|O_CREAT, 0666) = 3',
    '1 openat(AT_FDCWD</home/me>, "/etc/passwd", O_RDONLY|O_CLOEXEC) = 3',
    '1 openat(AT_FDCWD</home/me>, "/dev/null", O_RDWR) = 3',
    '1 mkdir("out/x/onnx", 0777) = 0',
    '1 rename("/home/me/out/x.partial/result", "/home/me/out/x") = 0',
    '1 unlinkat(12</tmp/own>, "spill", 0) = 0',
    '1 socketpair(AF_UNIX, SOCK_STREAM, 0, [3, 4]) = 0',
    '1 <... openat resumed>) = 3',
  ])('allows %s', (line) => {
    expect(clashCount(line)).toBe(0);
  });

  it.each([
    '1 openat(AT_FDCWD</home/me>, "/root/.cache/x", O_WRONLY|O_CREAT <unfinished ...>',
    '1 openat(AT_FDCWD</home/me>, "out/x/../y", O_RDWR|O_CREAT, 0666) = 3',
    '1 openat(AT_FDCWD</home/me>, "/home/me/out/xy", O_WRONLY) = -1 EACCES (Permission denied)',
    '1 mkdir("/root/.config", 0777) = -1 EEXIST (File exists)',
    '1 rename("/home/me/out/x.partial/result", "/home/me/result") = 0',
    '1 unlinkat(12</home/me/models>, "a", 0) = 0',
    '1 socket(AF_INET, SOCK_DGRAM|SOCK_CLOEXEC, IPPROTO_IP) = 20',
    '1 connect(20<TCP:[1]>, {sa_family=AF_INET, sin_port=htons(443), sin_addr=inet_addr("192.0.2.1")}, 16) = -1',
    '1 connect(20<UNIX:[1]>, {sa_family=AF_UNIX, sun_path="/var/run/nscd/socket"}, 110) = -1 ENOENT',
  ])('reports %s', (line) => {
    expect(clashCount(line, line)).toBe(1);
  });
});

it('reports only values that grow with each run as leaks', () => {
  const held = (run: number) => ({
    residentBytes: 2e8 + 1e7 * (run % 3),
    heapBytes: 3e7 + 1e4 * run,
    files: 20,
    handles: 2 + (run % 2),
    listeners: 6,
  });
  const all = Array.from({ length: 30 }, (_, run) => held(run));
  expect(findLeaks(all)).toEqual([]);
  expect(findLeaks(all.map((one, run) => ({ ...one, files: 20 + run })))).toEqual(['files: 1.00 more after each run']);
  expect(findLeaks(all.map((one, run) => ({ ...one, residentBytes: 2e8 + 4e6 * run })))).toHaveLength(1);
});
