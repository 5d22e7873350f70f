import { type ParseArgsConfig, parseArgs } from 'node:util';

/** Reads a script's arguments; asked for help it prints the usage, and where they make no sense that too. */
export function readArguments<Options extends NonNullable<ParseArgsConfig['options']>>(
  usage: string,
  options: Options,
) {
  try {
    const help = { type: 'boolean', short: 'h', default: false } as const;
    const found = parseArgs({ allowPositionals: true, options: { ...options, help } });
    if ((found.values as { readonly help?: boolean }).help) {
      process.stdout.write(`usage: ${usage}\n`);
      process.exit(0);
    }
    return found;
  } catch (error) {
    return refuse(usage, error instanceof Error ? error.message : String(error));
  }
}

/** Prints an error and the usage, and exits. */
export function refuse(usage: string, problem: string): never {
  process.stderr.write(`${problem}\nusage: ${usage}\n`);
  process.exit(2);
}
