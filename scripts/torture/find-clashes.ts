import { resolve, sep } from 'node:path';

/** Paths that a traced program may write, and its working folder. */
export interface Allowed {
  readonly folder: string;
  /** Folders and files, with the contents of folders, and paths that begin with their name and a dot. */
  readonly places: readonly string[];
}

/** System calls that create, change or remove their paths. */
const CHANGES =
  /^(creat|mkdir|mkdirat|rmdir|unlink|unlinkat|rename|renameat|renameat2|link|linkat|symlink|symlinkat|mknod|mknodat|truncate|chmod|fchmodat|fchmodat2|chown|lchown|fchownat|utime|utimes|utimensat|futimesat|setxattr|lsetxattr|removexattr)$/;
const OPENS = /^(open|openat|openat2)$/;
const WRITES = /O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_APPEND/;
/** Devices and pseudo files without contents. */
const NOWHERE = /^\/(dev\/(null|zero|tty|ptmx|u?random|full)|proc\/self\/(comm|oom_score_adj))$/;

/**
 * Finds calls outside the allowed paths in the output of `strace -f -e trace=%file,%network`: files opened for writing, created,
 * renamed or removed, even without success; and sockets of the internet, including DNS, or of other programs.
 * @returns unique lines of the trace
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

/** Whether one of the paths in a call's arguments is not allowed. */
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
