import type { ModelProto } from 'onnx-buf';

/** Opset of the default domain that a model imports; 0 if missing. */
export function opsetOf({ opsetImport }: ModelProto): number {
  return Number(opsetImport.find(({ domain }) => domain === '' || domain === 'ai.onnx')?.version ?? 0n);
}
