/** One of every `stride` of a list, each time another place on: windows of a text and of the model's own may take turns. */
export function everyNth<T>(list: readonly T[], stride: number): T[] {
  return list.filter((_, at) => (at + Math.floor(at / stride)) % stride === 0);
}
