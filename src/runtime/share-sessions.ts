import { fromBinary, toBinary } from '@bufbuild/protobuf';
import { ModelProtoSchema } from 'onnx-buf';
import { canonicaliseNames } from '../onnx/canonicalise-names.js';
import type { Engine, Session, SessionOptions, Tensors } from './engine.js';

type Weights = NonNullable<SessionOptions['weights']>;

/** Tables of positions are that small; weights of a block that are not trained are larger, differ, and would be copied in vain. */
const MAX_COMPARED = 2 ** 21;

/** A session, by what it was made from. */
interface Shared {
  readonly bytes: Uint8Array;
  readonly weights: Weights;
  readonly options: string;
  readonly session: Promise<Session>;
  users: number;
}

/**
 * An engine that makes one session of all graphs which differ only in names, such as blocks of one shape whose weights are fed.
 * A session costs megabytes, however small its graph. Weights next to the graph may be tables that all blocks read, such as those
 * of rotary embeddings: they are compared by their bytes.
 */
export function shareSessions(engine: Pick<Engine, 'load'>): Pick<Engine, 'load'> {
  const made = new Set<Shared>();
  const find = (bytes: Uint8Array, { weights: given = new Map(), ...rest }: SessionOptions): Shared => {
    const options = JSON.stringify(rest);
    for (const one of made)
      if (one.options === options && isSame(one.bytes, bytes) && areSame(one.weights, given)) return one;
    // Copied, because their source may be released before the last user.
    const weights: Weights = new Map([...given].map(([path, bytes]) => [path, bytes.slice()]));
    const added = { bytes, weights, options, session: engine.load(bytes, { ...rest, weights }), users: 0 };
    made.add(added);
    return added;
  };
  return {
    async load(bytes, options = {}) {
      const besideBytes = [...(options.weights ?? [])].reduce((sum, [, { byteLength }]) => sum + byteLength, 0);
      const named = besideBytes > MAX_COMPARED ? undefined : canonicaliseNames(fromBinary(ModelProtoSchema, bytes));
      if (named === undefined) return engine.load(bytes, options);
      const shared = find(toBinary(ModelProtoSchema, named.proto), options);
      shared.users += 1;
      const release = async () => {
        shared.users -= 1;
        if (shared.users > 0) return;
        made.delete(shared);
        await (await shared.session).release();
      };
      try {
        return underNames(await shared.session, { nameOf: named.nameOf, release });
      } catch (error) {
        made.delete(shared);
        throw error;
      }
    },
  };
}

function isSame(one: Uint8Array, other: Uint8Array): boolean {
  return one.length === other.length && one.every((byte, at) => byte === other[at]);
}

const areSame = (some: Weights, others: Weights): boolean =>
  some.size === others.size && [...some].every(([path, bytes]) => isSame(bytes, others.get(path) ?? new Uint8Array()));

interface Naming extends Pick<Session, 'release'> {
  readonly nameOf: ReadonlyMap<string, string>;
}

/** A session under the names that its graph had. */
function underNames(session: Session, { nameOf, release }: Naming): Session {
  const place = (name: string): string => nameOf.get(name) ?? name;
  const names = new Map([...nameOf].map(([name, at]) => [at, name]));
  const rename = (values: Tensors, to: (name: string) => string): Tensors =>
    Object.fromEntries(Object.entries(values).map(([name, tensor]) => [to(name), tensor]));
  const back = (name: string): string => names.get(name) ?? name;
  return {
    inputs: session.inputs.map((declared) => ({ ...declared, name: back(declared.name) })),
    outputs: session.outputs.map((declared) => ({ ...declared, name: back(declared.name) })),
    run: async (feeds, fetches) => rename(await session.run(rename(feeds, place), fetches?.map(place)), back),
    release,
  };
}
