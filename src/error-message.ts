/** What an error said, for another message: without the full stop, which that one has. */
export function errorMessage(cause: unknown): string {
  const said =
    typeof cause === 'object' && cause !== null && 'message' in cause ? String(cause.message) : String(cause);
  return said.replace(/\.$/, '');
}
