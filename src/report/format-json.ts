/** Objects of plain values up to this length remain on one line. */
const LINE_LIMIT = 110;

/**
 * Formats JSON for people: indented, with lists of plain values and short objects of them on one line, since reports
 * contain long lists of neurons.
 */
export function formatJson(value: unknown): string {
  return `${format(value, '')}\n`;
}

function format(value: unknown, indent: string): string {
  if (!isContainer(value)) return JSON.stringify(value) ?? 'null';
  const inner = `${indent}  `;
  if (Array.isArray(value)) {
    if (!value.some(isContainer)) return `[${value.map((item) => format(item, inner)).join(', ')}]`;
    return `[\n${value.map((item) => inner + format(item, inner)).join(',\n')}\n${indent}]`;
  }
  const fields = Object.entries(value).filter(([, item]) => item !== undefined);
  if (fields.length === 0) return '{}';
  const lines = fields.map(([name, item]) => `${JSON.stringify(name)}: ${format(item, inner)}`);
  const line = `{ ${lines.join(', ')} }`;
  if (line.length <= LINE_LIMIT && !fields.some(([, item]) => isContainer(item))) return line;
  return `{\n${lines.map((text) => inner + text).join(',\n')}\n${indent}}`;
}

function isContainer(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}
