import { isOutOfMemory, MEMORY_REMEDY } from './out-of-memory.js';

/** IR versions and opsets that are newer than ONNX Runtime 1.21: the largest number, and the first version that loads it. */
const FIRST_WITH_IR = [
  [11, '1.23'],
  [13, '1.24'],
] as const;
const FIRST_WITH_OPSET = [
  [23, '1.23'],
  [25, '1.24'],
  [26, '1.25'],
] as const;

/** Messages about operators and attributes that ONNX Runtime does not know. */
const UNKNOWN =
  /find an implementation for (\S+)|No Op registered for (\S+)|(\S+)\(-?\d+\) is not a registered|attribute: \S+ for operator (\S+)/;

/** Message about typed arrays of another realm. */
const OTHER_REALM = /must be type of function|must be a typed array/;

/**
 * Advice about an error of ONNX Runtime.
 * @param message ONNX Runtime's message.
 * @param version Loaded version, if known.
 * @returns undefined for messages that need none.
 */
export function explainRefusal(message: string, version: string | undefined): string | undefined {
  if (OTHER_REALM.test(message)) {
    return (
      "ONNX Runtime was loaded inside a test runner's sandbox, whose typed arrays it refuses. " +
      'Leave out `engine`, or create it with `createNodeEngine`, which loads ONNX Runtime outside of the sandbox'
    );
  }
  if (isOutOfMemory(new Error(message))) return MEMORY_REMEDY;
  const needs = neededRuntime(message) ?? unknownOperator(message);
  return (
    needs &&
    `ONNX Runtime ${version ?? ''} is loaded; ${needs}. Install another version, or export the model for this one`
  );
}

/** Version that a refused model needs, as in `opset 24 of ai.onnx needs 1.24 or newer`; undefined for other messages. */
export function neededRuntime(message: string): string | undefined {
  const [, ir] = message.match(/model IR version: (\d+)/) ?? [];
  if (ir !== undefined) return `IR version ${ir} needs ${firstWith(FIRST_WITH_IR, Number(ir))}`;
  const [, opset, domain] = message.match(/Opset (\d+) is under.* domain (\S+) is till/s) ?? [];
  if (opset === undefined) return undefined;
  return `opset ${opset} of ${domain} needs ${domain === 'ai.onnx' ? firstWith(FIRST_WITH_OPSET, Number(opset)) : 'a newer one'}`;
}

/** Advice about an unknown operator. */
function unknownOperator(message: string): string | undefined {
  const operator = message
    .match(UNKNOWN)
    ?.slice(1)
    .find((name) => name !== undefined);
  return operator && `a newer one may run ${operator}`;
}

function firstWith(table: readonly (readonly [number, string])[], wanted: number): string {
  const first = table.find(([upTo]) => wanted <= upTo)?.[1];
  return first === undefined ? 'a newer one' : `${first} or newer`;
}
