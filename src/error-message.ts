/** Message of an error, to be part of another message: without the full stop. */
export function errorMessage(cause: unknown): string {
  const said =
    typeof cause === 'object' && cause !== null && 'message' in cause ? String(cause.message) : String(cause);
  return said.replace(/\.$/, '');
}
