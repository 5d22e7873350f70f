/** Message of an error without the full stop, for use in another message. */
export function errorMessage(cause: unknown): string {
  const message =
    typeof cause === 'object' && cause !== null && 'message' in cause ? String(cause.message) : String(cause);
  return message.replace(/\.$/, '');
}
