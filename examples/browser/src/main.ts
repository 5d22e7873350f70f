import {
  choose as chooseSize,
  describe,
  generateText,
  type JobControl,
  type ModelDescription,
  type Progress,
  type PruneReport,
  prune,
} from 'fang-prune';
import { detectFeatures, lacksOf } from './browser-features.js';
import { type ChosenModel, fetchBundled, fromDrop, fromHub, fromInput } from './choose-model.js';
import { drawBlocks } from './draw-blocks.js';
import { drawSizes } from './draw-sizes.js';
import { element, make, showFacts } from './elements.js';
import { formatBytes, formatCount, formatDuration, formatShare, formatStage } from './format.js';
import { createResultFolder, downloadAll, folderIn, type ResultFolder, saveInto } from './result-folder.js';

/** What the page has come to. */
let dense: ChosenModel | undefined;
let described: ModelDescription | undefined;
let result: ResultFolder | undefined;

const input = (id: string) => element<HTMLInputElement>(id);

async function showFeatures(): Promise<void> {
  const features = await detectFeatures();
  const lacking = lacksOf(features);
  element('lacks').replaceChildren(...lacking.map((text) => make('li', {}, text)));
  element('lacks').hidden = lacking.length === 0;
  if (features.webgpu) element('provider').append(make('option', { value: 'webgpu' }, 'WebGPU'));
  element('save').hidden = !features.saving;
  element('hub-form').hidden = !features.storage;
}

/** Says what went wrong where it was asked for. */
async function saying(status: HTMLElement, action: () => Promise<void>): Promise<void> {
  status.classList.remove('error');
  try {
    await action();
  } catch (error) {
    const { name, message } = error as Error;
    status.classList.toggle('error', name !== 'AbortError');
    status.textContent = name === 'AbortError' ? 'Cancelled; nothing was written.' : message;
  }
}

function choose(find: () => Promise<ChosenModel>): Promise<void> {
  const status = element('model-status');
  return saying(status, async () => {
    for (const id of ['described', 'choices', 'result', 'chat']) element(id).hidden = true;
    status.textContent = 'Looking at the model ...';
    dense = await find();
    const onProgress = ({ stage, detail }: Progress) => {
      status.textContent = `${formatStage(stage, detail)} ...`;
    };
    described = await describe({ model: dense.folder, onProgress });
    status.textContent = `${dense.name} is ready.`;
    showModel(described);
  });
}

function showModel(model: ModelDescription): void {
  const { format, blocks, parameters, hiddenSize, vocabularySize, unrecognised } = model;
  showFacts(element('facts'), {
    Parameters: formatCount(parameters.total),
    'Can be pruned': formatShare(parameters.prunable / parameters.total),
    Size: `${formatBytes(format.bytes)}, ${format.dataType}`,
    Blocks: String(blocks.length),
    'Hidden size': String(hiddenSize),
    Vocabulary: String(vocabularySize),
    ...(unrecognised.length > 0 && { 'Left alone': `${unrecognised.length} parts` }),
  });
  drawBlocks(element('blocks'), model);
  element('removed-key').hidden = true;
  element('described').hidden = false;
  element('choices').hidden = false;
  element('run-status').textContent = '';
  showSize();
}

/** What a share comes to, before it is tried. */
function showSize(): void {
  const sparsity = Number(input('sparsity').value) / 100;
  element('sparsity-text').textContent = formatShare(sparsity);
  if (described === undefined) return;
  const { parameters, format } = described;
  const left = parameters.total - sparsity * parameters.prunable;
  element('size').textContent =
    `About ${formatBytes((format.bytes * left) / parameters.total)} of ${formatBytes(format.bytes)} will be left.`;
}

/** Runs one of the two ways to a smaller model, with its progress and a button that ends it. */
function run(make: (control: JobControl) => Promise<void>): Promise<void> {
  const status = element('run-status');
  const abortion = new AbortController();
  const began = performance.now();
  const tick = () => {
    element('elapsed').textContent = `${formatDuration(performance.now() - began)} so far`;
  };
  const timer = setInterval(tick, 1000);
  const cancel = () => abortion.abort();
  const setRunning = (isRunning: boolean) => {
    element('running').hidden = !isRunning;
    element('cancel').hidden = !isRunning;
    for (const id of ['start', 'try']) input(id).disabled = isRunning;
  };
  element('cancel').addEventListener('click', cancel);
  for (const id of ['result', 'chat', 'sizes']) element(id).hidden = true;
  status.textContent = '';
  showProgress({ stage: 'load', done: 0, total: 1 });
  tick();
  setRunning(true);
  return saying(status, async () => {
    await make({ onProgress: showProgress, signal: abortion.signal });
    status.textContent = `Done in ${formatDuration(performance.now() - began)}.`;
  }).finally(() => {
    clearInterval(timer);
    element('cancel').removeEventListener('click', cancel);
    setRunning(false);
  });
}

/** What both ways take from the form. */
const readSettings = () => ({
  calibration: { windowCount: Number(input('windows').value), windowLength: 128 },
  executionProvider: input('provider').value,
});

const makeSmaller = (): Promise<void> =>
  run(async (control) => {
    const out = await createResultFolder(`${dense!.name}-smaller`);
    const report = await prune({
      ...readSettings(),
      ...control,
      model: dense!.folder,
      out: out.place,
      sparsity: Number(input('sparsity').value) / 100,
      method: input('method').value,
    });
    result = out;
    await showResult(report);
  });

/** Makes several sizes, and continues with the recommended one. */
const trySizes = (): Promise<void> =>
  run(async (control) => {
    const out = await createResultFolder(`${dense!.name}-sizes`);
    const settings = { ...readSettings(), ...control };
    const choice = await chooseSize({
      ...settings,
      model: dense!.folder,
      out: out.place,
      text: input('text').files![0]!,
    });
    drawSizes(element('sizes'), choice);
    element('sizes').hidden = false;
    result = await folderIn(out, choice.recommended);
    const report = (await result.files()).get('fang-prune-report.json');
    await showResult(JSON.parse((await report?.text()) ?? '{}'));
  });

function showProgress({ stage, done, total, detail }: Progress): void {
  element('stage').textContent = formatStage(stage, detail);
  const bar = element<HTMLProgressElement>('progress');
  bar.max = Math.max(total, 1);
  bar.value = done;
}

async function showResult(report: PruneReport): Promise<void> {
  const { parameters, bytes, certificate } = report;
  showFacts(element('outcome'), {
    Parameters: `${formatCount(parameters.before)} to ${formatCount(parameters.after)}`,
    Size: `${formatBytes(bytes.before)} to ${formatBytes(bytes.after)}`,
    'Taken out': `${formatShare(report.sparsity.achieved)} of what can be pruned`,
    ...(certificate && { Checked: `the written model computes what was decided, on ${certificate.tokens} tokens` }),
  });
  drawBlocks(element('blocks'), described!, report);
  element('removed-key').hidden = false;
  const page = (await result!.files()).get('fang-prune-report.html');
  element<HTMLIFrameElement>('report-frame').srcdoc = (await page?.text()) ?? '';
  element('samples').replaceChildren();
  element('result').hidden = false;
  element('chat').hidden = false;
}

/** One after the other, so that one of them is in memory. */
function write(button: HTMLButtonElement): Promise<void> {
  const models = { [`${dense!.name}, as it was`]: dense!.folder, [`${dense!.name}, pruned`]: result!.place };
  const texts = Object.keys(models).map((name) => {
    const text = make('p', { class: 'sample' }, '...');
    return { text, card: make('article', {}, make('h3', {}, name), text) };
  });
  element('samples').replaceChildren(...texts.map(({ card }) => card));
  const prompt = input('prompt').value;
  button.disabled = true;
  const writeAll = async () => {
    for (const [at, model] of Object.values(models).entries()) {
      const { text } = texts[at]!;
      await saying(text, async () => {
        const [newTokens, temperature] = ['tokens', 'temperature'].map((id) => Number(input(id).value));
        const sample = await generateText({ model, prompt, newTokens, temperature });
        text.replaceChildren(make('span', { class: 'prompt' }, prompt), sample.text);
      });
    }
  };
  return writeAll().finally(() => {
    button.disabled = false;
  });
}

function listen(): void {
  element('bundled').addEventListener('click', () => void choose(fetchBundled));
  const folder = input('folder');
  folder.addEventListener('change', () => {
    const { files } = folder;
    if (files !== null && files.length > 0) void choose(async () => fromInput(files));
  });
  const drop = element('drop');
  for (const type of ['dragenter', 'dragover', 'dragleave', 'drop'] as const)
    drop.addEventListener(type, (event) => {
      event.preventDefault();
      drop.classList.toggle('over', type === 'dragenter' || type === 'dragover');
      if (type === 'drop' && event.dataTransfer) void choose(fromDrop.bind(undefined, event.dataTransfer));
    });
  input('sparsity').addEventListener('input', showSize);
  const onSubmit = (id: string, action: (button: HTMLButtonElement) => void) =>
    element(id).addEventListener('submit', (event) => {
      event.preventDefault();
      action((event as SubmitEvent).submitter as HTMLButtonElement);
    });
  onSubmit('hub-form', () => void choose(async () => fromHub(input('hub').value.trim())));
  onSubmit('form', () => void makeSmaller());
  onSubmit('sizes-form', () => void trySizes());
  onSubmit('chat-form', (button) => void write(button));
  const status = element('save-status');
  const name = () => `${dense!.name}-smaller`;
  element('zip').addEventListener('click', () => void saying(status, () => downloadAll(result!, name())));
  element('save').addEventListener('click', () => {
    void saying(status, async () => {
      status.textContent = `Saved into ${await saveInto(result!)}.`;
    });
  });
}

listen();
await showFeatures();
