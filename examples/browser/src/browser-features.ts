/** What this page can use where a browser has it. */
export interface Features {
  readonly webgpu: boolean;
  readonly saving: boolean;
  readonly threads: boolean;
  readonly storage: boolean;
}

/** What it costs that a browser has no such thing. */
const LACKS: Readonly<Record<keyof Features, string>> = {
  webgpu: 'No WebGPU here, as in many versions of Firefox and Safari: models run on the processor.',
  saving: 'No folders to save into, as in Firefox and Safari: the result comes as a zip.',
  threads: 'This page is not cross-origin isolated: models run on one thread.',
  storage: 'No private file system here (it needs https, and no private window): everything stays in memory.',
};

export async function detectFeatures(): Promise<Features> {
  const { gpu } = navigator as { readonly gpu?: { requestAdapter(): Promise<object | null> } };
  const adapter = await gpu?.requestAdapter().catch(() => null);
  return {
    webgpu: Boolean(adapter),
    saving: 'showDirectoryPicker' in globalThis,
    threads: globalThis.crossOriginIsolated === true,
    storage: navigator.storage?.getDirectory !== undefined,
  };
}

export const lacksOf = (features: Features): readonly string[] =>
  (Object.keys(LACKS) as (keyof Features)[]).filter((name) => !features[name]).map((name) => LACKS[name]);
