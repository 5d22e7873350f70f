import type { OnnxModel } from '../onnx/onnx-model.js';
import { opsetOf } from '../onnx/opset-of.js';
import { appendDivergence, type Divergence } from '../operators/divergence.js';
import { buildGradientGraph } from '../operators/gradient-graph.js';
import { type AnalysedModel, factsForSize } from '../runtime/analyse-model.js';
import { type Batch, indexRunGraph } from '../runtime/block-runner.js';
import { type CompiledStage, compileStage, type LoadedSlice, type StageExtension } from '../runtime/compile-stage.js';
import { type Engine, type Tensor, typeOf } from '../runtime/engine.js';
import { stageFeeds } from '../runtime/stage-feeds.js';
import { releaseTensor, releaseTensors, trackTensor } from '../runtime/tensor-memory.js';

/** A model whose last hidden states are known. */
export interface HeadModel {
  readonly model: OnnxModel;
  readonly analysed: AnalysedModel;
}

export interface LossHeadRequest {
  readonly engine: Engine;
  readonly teacher: HeadModel;
  readonly student: HeadModel;
}

export interface LossRun {
  readonly batch: Batch;
  /** Last hidden states of the teacher and of the student. */
  readonly target: Tensor;
  readonly hidden: Tensor;
  /** Factor of the divergence at each position. */
  readonly scale: number;
}

/** Loss of the student's predictions against the teacher's. */
export interface LossHead {
  /**
   * Sum over positions of KL(teacher || student) x scale, in nats, and its gradient at the student's last hidden state,
   * to be released by the caller.
   */
  run(run: LossRun): Promise<{ readonly loss: number; readonly cotangent: Tensor }>;
  release(): Promise<void>;
}

/** Positions whose logits are computed at once: at a vocabulary of 50,000 each tensor takes 25 MB. */
const POSITIONS = 128;

/**
 * Compiles the graphs from last hidden states to the divergence. The teacher's logits are recomputed exactly from stored
 * hidden states, some positions at a time.
 * @throws UnsupportedModelError when an operator of the head has no gradient rule.
 */
export async function createLossHead(given: LossHeadRequest): Promise<LossHead> {
  const teacher = await compileTeacher(given);
  const student = await compileStudent(given).catch(async (error) => {
    await teacher.stage.session.release();
    throw error;
  });
  return {
    async run({ batch, target, hidden, scale }) {
      const count = batch.tokens.length;
      const data = new Float32Array(hidden.data.length);
      const width = data.length / count;
      let loss = 0;
      for (let start = 0; start < count; start += POSITIONS) {
        const part = chunkOf(batch, start);
        const { [teacher.logits]: logits } = await teacher.stage.session.run(
          stageFeeds(given.teacher, { ...teacher, batch: part, hidden: rowsOf(target, start, count) }),
        );
        const values = await student.stage.session.run({
          ...stageFeeds(given.student, { ...student, batch: part, hidden: rowsOf(hidden, start, count) }),
          [student.divergence.target]: logits!,
          [student.divergence.weights]: weightsOf(Math.min(POSITIONS, count - start), scale),
        });
        loss += Number(values[student.divergence.loss]!.data[0]);
        const rows = values[student.cotangent]!.data as Float32Array;
        data.set(rows.subarray(0, Math.min(rows.length, data.length - start * width)), start * width);
        releaseTensor(logits!);
        releaseTensors(values);
      }
      const cotangent: Tensor = { type: 'float32', dims: hidden.dims, data };
      trackTensor(cotangent);
      return { loss, cotangent };
    },
    async release() {
      await Promise.all([teacher.stage.session.release(), student.stage.session.release()]);
    },
  };
}

interface Head {
  readonly stage: CompiledStage;
  readonly names: readonly string[];
  /** The last hidden state. */
  readonly input: string;
}

const SIZE = { batchSize: 1, sequenceLength: POSITIONS };

async function compileTeacher({ engine, teacher }: LossHeadRequest): Promise<Head & { readonly logits: string }> {
  const { logits } = teacher.analysed.detected.layout;
  return { ...(await compileHead(engine, teacher, { fetches: [logits] })), logits };
}

async function compileStudent({ engine, teacher, student }: LossHeadRequest) {
  const { model, analysed } = student;
  const { logits } = analysed.detected.layout;
  const facts = factsForSize(analysed, SIZE);
  const opset = opsetOf(model.proto);
  const input = analysed.detected.partition.cuts.at(-1)!;
  let found: { readonly divergence: Divergence; readonly cotangent: string } | undefined;
  const extension = ({ nodes, initializers }: LoadedSlice): StageExtension => {
    const divergence = appendDivergence({
      logits: { value: logits, fact: facts.get(logits)! },
      targetType: factsForSize(teacher.analysed, SIZE).get(teacher.analysed.detected.layout.logits)!.dataType,
      opset,
    });
    const gradient = buildGradientGraph({
      graph: { nodes, initializers, opset },
      shapes: facts,
      outputs: [{ value: logits, cotangent: divergence.cotangent }],
      wanted: [input],
    });
    found = { divergence, cotangent: gradient.gradients.get(input)! };
    return {
      nodes: [...divergence.nodes, ...gradient.nodes],
      initializers: [...divergence.initializers, ...gradient.initializers],
      inputs: [
        { name: divergence.target, type: typeOf(divergence.targetType)! },
        { name: divergence.weights, type: 'float32' },
      ],
      outputs: [divergence.loss, found.cotangent],
      domains: gradient.domains,
    };
  };
  const head = await compileHead(engine, student, { fetches: [], reads: [logits], extension });
  return { ...head, ...found! };
}

async function compileHead(
  engine: Engine,
  { model, analysed }: HeadModel,
  requested: Pick<Parameters<typeof compileStage>[0], 'fetches' | 'reads' | 'extension'>,
): Promise<Head> {
  const index = indexRunGraph(model);
  const input = analysed.detected.partition.cuts.at(-1)!;
  // Other values of the forward pass have an entire batch's size, so they are computed again.
  const isAvailable = (value: string) => value === input || index.inputs.has(value);
  const stage = await compileStage({ engine, model, index, isAvailable, facts: analysed.facts, ...requested });
  return { stage, names: stage.inputs, input };
}

/** Some positions of a batch, as one window. */
const chunkOf = ({ index, firstToken, tokens }: Batch, start: number): Batch => ({
  index,
  firstToken: firstToken + start,
  ...SIZE,
  tokens: Int32Array.from({ length: POSITIONS }, (_, at) => tokens[start + at] ?? 0),
});

/** The hidden states of a chunk, `[1, POSITIONS, C]` or `[POSITIONS, C]`; zeros after the last. */
function rowsOf(hidden: Tensor, start: number, count: number): Tensor {
  const width = hidden.data.length / count;
  const rows = hidden.data.subarray(start * width, (start + POSITIONS) * width);
  const dims = hidden.dims.length === 2 ? [POSITIONS, width] : [1, POSITIONS, width];
  if (rows.length === POSITIONS * width) return { ...hidden, dims, data: rows } as Tensor;
  const data = new (hidden.data.constructor as Float32ArrayConstructor)(POSITIONS * width);
  data.set(rows as Float32Array);
  return { ...hidden, dims, data } as Tensor;
}

/** Weights of positions: `scale`, and 0 after the last. */
function weightsOf(count: number, scale: number): Tensor {
  const data = new Float32Array(POSITIONS).fill(scale, 0, count);
  return { type: 'float32', dims: [1, POSITIONS, 1], data };
}
