/** One of every `stride` elements, at another position each time, since windows of texts and of the model may alternate. */
export function everyNth<T>(list: readonly T[], stride: number): T[] {
  return list.filter((_, at) => (at + Math.floor(at / stride)) % stride === 0);
}
