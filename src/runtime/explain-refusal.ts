/** IR versions and operator sets that ONNX Runtime learnt since 1.21, each with the first version that loads it. */
const FIRST_WITH_IR = [
  [11, '1.23'],
  [13, '1.24'],
] as const;
const FIRST_WITH_OPSET = [
  [23, '1.23'],
  [25, '1.24'],
  [26, '1.25'],
] as const;

/** What ONNX Runtime says of a graph that is newer than itself, and what the graph needs. */
const TOO_NEW: readonly { readonly said: RegExp; readonly needs: (found: RegExpMatchArray) => string }[] = [
  {
    said: /Unsupported model IR version: (\d+)/,
    needs: ([, version]) => `The model's IR version is ${version}: ${firstWith(FIRST_WITH_IR, Number(version))}`,
  },
  {
    said: /Opset (\d+) is under development.*?domain (\S+) is till opset/s,
    needs: ([, opset, domain]) =>
      `The model imports opset ${opset} of ${domain}: ${
        domain === 'ai.onnx' ? firstWith(FIRST_WITH_OPSET, Number(opset)) : 'a newer ONNX Runtime may know it'
      }`,
  },
  {
    said: /Could not find an implementation for (\S+)/,
    needs: ([, operator]) =>
      `This version has no kernel for ${operator} on these execution providers; a newer one may have it`,
  },
  {
    said: /No Op registered for (\S+) with domain_version of (\d+)/,
    needs: ([, operator, opset]) =>
      `This version does not know ${operator} of opset ${opset}; a newer one may, or the model names an operator that does not exist`,
  },
  {
    said: /(\S+?)\(-?\d+\) is not a registered function\/op/,
    needs: ([, operator]) => `This version does not know the operator ${operator}; a newer one may`,
  },
  {
    said: /Unrecognized attribute: (\S+) for operator (\S+)/,
    needs: ([, attribute, operator]) =>
      `This version does not know the attribute ${attribute} of ${operator}; a newer one may`,
  },
];

/** What typed arrays of another realm are called. */
const OTHER_REALM =
  /must be type of function|must be a typed array|type of \w+Array\b.*constructor|Unexpected.*tensor data/i;

/**
 * Says what to do about a refusal of ONNX Runtime.
 * @param said ONNX Runtime's message.
 * @param version Version that was loaded, where known.
 * @returns a sentence, or undefined for messages that speak for themselves.
 */
export function explainRefusal(said: string, version: string | undefined): string | undefined {
  if (OTHER_REALM.test(said)) {
    return (
      'ONNX Runtime was loaded inside the sandbox of a test runner, whose typed arrays it does not take. ' +
      'Load it outside: leave out `engine`, or make it with `createNodeEngine`'
    );
  }
  for (const { said: pattern, needs } of TOO_NEW) {
    const found = said.match(pattern);
    if (found === null) continue;
    return `${needs(found)}. ONNX Runtime ${version ?? 'of an unknown version'} is loaded; install a newer one, or export the model for it`;
  }
  return undefined;
}

function firstWith(table: readonly (readonly [number, string])[], wanted: number): string {
  const first = table.find(([upTo]) => wanted <= upTo);
  return first === undefined
    ? 'it needs a newer ONNX Runtime than any known here'
    : `it needs ONNX Runtime ${first[1]} or newer`;
}
