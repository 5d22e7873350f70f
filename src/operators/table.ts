import type { NodeProto } from 'onnx-buf';
import { UnsupportedModelError } from '../errors.js';
import { nodeLabel, qualifiedOp } from '../onnx/graph-index.js';
import { ACTIVATIONS } from './activation.js';
import { ATTENTION } from './attention.js';
import { CONCATS } from './concat.js';
import { ELEMENTWISE } from './elementwise.js';
import { EXPERTS } from './experts.js';
import { GATHERS } from './gather.js';
import { GROUP_QUERY } from './group-query.js';
import { LINEAR } from './linear.js';
import { LINEAR_ATTENTION } from './linear-attention.js';
import { MIXERS } from './mixers.js';
import { NORMALISATION } from './normalisation.js';
import { type Family, type Gradient, type Missing, missing, type Operator } from './operator.js';
import { QUANTISED } from './quantised.js';
import { REDUCTIONS } from './reduction.js';
import { RESHAPES } from './reshape.js';
import { RESIDUAL_NORMS } from './residual-norm.js';
import { ROTARY } from './rotary.js';
import { SHAPES } from './shape.js';
import { SLICES } from './slice.js';

/** All known operators by name, with the domain as prefix unless it is ONNX's default. A new one is a row in its family's file. */
export const OPERATORS: Family = {
  ...ELEMENTWISE,
  ...ACTIVATIONS,
  ...REDUCTIONS,
  ...NORMALISATION,
  ...RESIDUAL_NORMS,
  ...LINEAR,
  ...QUANTISED,
  ...RESHAPES,
  ...CONCATS,
  ...SLICES,
  ...GATHERS,
  ...SHAPES,
  ...ROTARY,
  ...ATTENTION,
  ...GROUP_QUERY,
  ...MIXERS,
  ...LINEAR_ATTENTION,
  ...EXPERTS,
};

/** The row of a node's operator; undefined where there is none. */
export function operatorOf(node: NodeProto): Operator | undefined {
  const name = qualifiedOp(node);
  return Object.hasOwn(OPERATORS, name) ? OPERATORS[name] : undefined;
}

/** Gradient of a node's inputs. @throws UnsupportedModelError where unknown. */
export function gradientOf(node: NodeProto): Exclude<Gradient, Missing> {
  const gradient = operatorOf(node)?.gradient ?? missing('the operator is not supported');
  if (gradient === 'zero' || !('missing' in gradient)) return gradient;
  throw new UnsupportedModelError(`No gradient rule for operator ${nodeLabel(node)} (${gradient.missing})`);
}
