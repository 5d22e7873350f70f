import { isOutOfMemory, MEMORY_REMEDY } from './out-of-memory.js';

/** IR versions and operator sets that ONNX Runtime learnt after 1.21, each up to the number with the first version that loads it. */
const FIRST_WITH_IR = [
  [11, '1.23'],
  [13, '1.24'],
] as const;
const FIRST_WITH_OPSET = [
  [23, '1.23'],
  [25, '1.24'],
  [26, '1.25'],
] as const;

/** Operators and attributes, as ONNX Runtime names those that it cannot run. */
const UNKNOWN =
  /find an implementation for (\S+)|No Op registered for (\S+)|(\S+)\(-?\d+\) is not a registered|attribute: \S+ for operator (\S+)/;

/** Message about typed arrays of another realm. */
const OTHER_REALM = /must be type of function|must be a typed array/;

/**
 * Says what to do about a refusal of ONNX Runtime.
 * @param said ONNX Runtime's message.
 * @param version Version that is loaded, where known.
 * @returns undefined for messages that speak for themselves.
 */
export function explainRefusal(said: string, version: string | undefined): string | undefined {
  if (OTHER_REALM.test(said)) {
    return (
      "ONNX Runtime was loaded inside a test runner's sandbox, whose typed arrays it refuses. " +
      'Leave out `engine`, or make it with `createNodeEngine`, which loads it outside'
    );
  }
  if (isOutOfMemory(new Error(said))) return MEMORY_REMEDY;
  const needs = neededRuntime(said) ?? unknownOperator(said);
  return (
    needs &&
    `ONNX Runtime ${version ?? ''} is loaded; ${needs}. Install another version, or export the model for this one`
  );
}

/** Which ONNX Runtime a model needs that another refused: `opset 24 of ai.onnx needs 1.24 or newer`; undefined where that is not said. */
export function neededRuntime(said: string): string | undefined {
  const [, ir] = said.match(/model IR version: (\d+)/) ?? [];
  if (ir !== undefined) return `IR version ${ir} needs ${firstWith(FIRST_WITH_IR, Number(ir))}`;
  const [, opset, domain] = said.match(/Opset (\d+) is under.* domain (\S+) is till/s) ?? [];
  if (opset === undefined) return undefined;
  return `opset ${opset} of ${domain} needs ${domain === 'ai.onnx' ? firstWith(FIRST_WITH_OPSET, Number(opset)) : 'a newer one'}`;
}

/** Message about an unknown operator. */
function unknownOperator(said: string): string | undefined {
  const operator = said
    .match(UNKNOWN)
    ?.slice(1)
    .find((name) => name !== undefined);
  return operator && `a newer one may run ${operator}`;
}

function firstWith(table: readonly (readonly [number, string])[], wanted: number): string {
  const first = table.find(([upTo]) => wanted <= upTo)?.[1];
  return first === undefined ? 'a newer one' : `${first} or newer`;
}
