import { fromBinary, toBinary } from '@bufbuild/protobuf';
import { ModelProtoSchema } from 'onnx-buf';
import { canonicaliseNames } from '../onnx/canonicalise-names.js';
import type { Engine, Session, SessionOptions, Tensors } from './engine.js';

type Weights = NonNullable<SessionOptions['weights']>;

/** Most bytes of external weights to compare: position tables are smaller, and a block's frozen weights are larger and differ. */
const MAX_COMPARED = 2 ** 21;

/** A session, with the graph, weights and options that it was created from. */
interface SharedSession {
  readonly bytes: Uint8Array;
  readonly weights: Weights;
  readonly options: string;
  readonly session: Promise<Session>;
  users: number;
}

/**
 * An engine that shares one session between graphs that differ only in names, such as blocks of one shape whose weights are fed:
 * a session costs megabytes even for a small graph. External weights are compared by their bytes, since all blocks may read the
 * same rotary tables.
 */
export function shareSessions(engine: Pick<Engine, 'load'>): Pick<Engine, 'load'> {
  const sessions = new Set<SharedSession>();
  const find = (bytes: Uint8Array, { weights: original = new Map(), ...rest }: SessionOptions): SharedSession => {
    const options = JSON.stringify(rest);
    for (const known of sessions)
      if (known.options === options && equalBytes(known.bytes, bytes) && equalWeights(known.weights, original))
        return known;
    // Copied, because the originals may be released before the last user.
    const weights: Weights = new Map([...original].map(([path, bytes]) => [path, bytes.slice()]));
    const added = { bytes, weights, options, session: engine.load(bytes, { ...rest, weights }), users: 0 };
    sessions.add(added);
    return added;
  };
  return {
    async load(bytes, options = {}) {
      const weightBytes = [...(options.weights ?? [])].reduce((sum, [, { byteLength }]) => sum + byteLength, 0);
      const canonical = weightBytes > MAX_COMPARED ? undefined : canonicaliseNames(fromBinary(ModelProtoSchema, bytes));
      if (canonical === undefined) return engine.load(bytes, options);
      const shared = find(toBinary(ModelProtoSchema, canonical.proto), options);
      shared.users += 1;
      const release = async () => {
        shared.users -= 1;
        if (shared.users > 0) return;
        sessions.delete(shared);
        await (await shared.session).release();
      };
      try {
        return renameValues(await shared.session, { nameOf: canonical.nameOf, release });
      } catch (error) {
        sessions.delete(shared);
        throw error;
      }
    },
  };
}

function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, at) => byte === b[at]);
}

const equalWeights = (a: Weights, b: Weights): boolean =>
  a.size === b.size && [...a].every(([path, bytes]) => equalBytes(bytes, b.get(path) ?? new Uint8Array()));

interface Naming extends Pick<Session, 'release'> {
  readonly nameOf: ReadonlyMap<string, string>;
}

/** A session with the original names of its graph. */
function renameValues(session: Session, { nameOf, release }: Naming): Session {
  const canonical = (name: string): string => nameOf.get(name) ?? name;
  const originals = new Map([...nameOf].map(([original, name]) => [name, original]));
  const rename = (values: Tensors, to: (name: string) => string): Tensors =>
    Object.fromEntries(Object.entries(values).map(([name, tensor]) => [to(name), tensor]));
  const original = (name: string): string => originals.get(name) ?? name;
  return {
    inputs: session.inputs.map((declared) => ({ ...declared, name: original(declared.name) })),
    outputs: session.outputs.map((declared) => ({ ...declared, name: original(declared.name) })),
    run: async (feeds, fetches) =>
      rename(await session.run(rename(feeds, canonical), fetches?.map(canonical)), original),
    release,
  };
}
