import type { ModelProto } from 'onnx-buf';

/** Version of ONNX's own operators that a model imports; 0 when it says none. */
export function opsetOf({ opsetImport }: ModelProto): number {
  return Number(opsetImport.find(({ domain }) => domain === '' || domain === 'ai.onnx')?.version ?? 0n);
}
