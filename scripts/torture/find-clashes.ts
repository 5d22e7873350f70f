import { resolve, sep } from 'node:path';

/** Where a traced program may write, and where it was started. */
export interface Allowed {
  readonly folder: string;
  /** Folders and files; all that lies in a folder, or begins with its name and a dot, belongs to it. */
  readonly places: readonly string[];
}

/** Calls that make, change or remove what their paths name. */
const CHANGES =
  /^(creat|mkdir|mkdirat|rmdir|unlink|unlinkat|rename|renameat|renameat2|link|linkat|symlink|symlinkat|mknod|mknodat|truncate|chmod|fchmodat|fchmodat2|chown|lchown|fchownat|utime|utimes|utimensat|futimesat|setxattr|lsetxattr|removexattr)$/;
const OPENS = /^(open|openat|openat2)$/;
const WRITES = /O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_APPEND/;
/** Devices and pseudo files that hold nothing. */
const NOWHERE = /^\/(dev\/(null|zero|tty|ptmx|u?random|full)|proc\/self\/(comm|oom_score_adj))$/;

/**
 * Finds what a program did outside the places that it was given, in the output of `strace -f -e trace=%file,%network`: files opened to
 * be written, made, renamed or removed, whether that succeeded or not; and sockets of the internet, DNS among them, or of other
 * programs.
 * @returns lines of the trace, each once
 */
export function findClashes(trace: string, allowed: Allowed): readonly string[] {
  const strays = new Set<string>();
  for (const line of trace.split('\n')) {
    const [, call = '', args = ''] = /^(?:\d+\s+)?(\w+)\((.*)$/.exec(line) ?? [];
    const isStray = OPENS.test(call)
      ? WRITES.test(args) && leaves(args, allowed)
      : CHANGES.test(call)
        ? leaves(args, allowed)
        : isOutward(call, args, allowed);
    if (isStray) strays.add(`${call}(${args}`);
  }
  return [...strays];
}

/** Whether one of the paths in a call's arguments lies outside what is allowed. */
function leaves(args: string, { folder, places }: Allowed): boolean {
  const paths = [...args.matchAll(/(?:<([^>]*)>, )?"((?:[^"\\]|\\.)*)"/g)].map(([, base = folder, path = '']) =>
    resolve(base.startsWith('/') ? base : folder, path),
  );
  const isAllowed = (path: string) =>
    NOWHERE.test(path) ||
    places.some((place) => path === place || path.startsWith(place + sep) || path.startsWith(`${place}.`));
  return !paths.every(isAllowed);
}

function isOutward(call: string, args: string, allowed: Allowed): boolean {
  if (call === 'socket') return !/AF_UNIX|AF_NETLINK/.test(args);
  if (/^(connect|bind|sendto|sendmsg)$/.test(call) && /sa_family=AF_UNIX, sun_path="/.test(args))
    return leaves(args, allowed);
  return /^(connect|bind|sendto|sendmsg|sendmmsg)$/.test(call) && /sa_family=AF_(?!UNIX|NETLINK|UNSPEC)/.test(args);
}
