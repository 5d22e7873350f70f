import { create } from '@bufbuild/protobuf';
import { type AttributeProto, AttributeProto_AttributeType, AttributeProtoSchema, type NodeProto } from 'onnx-buf';

/** Finds an attribute by name. */
export function findAttribute(node: NodeProto, name: string): AttributeProto | undefined {
  return node.attribute.find((attribute) => attribute.name === name);
}

/** Integer attribute, or `fallback` when the node does not carry it. */
export function intAttribute(node: NodeProto, name: string, fallback: number): number {
  const attribute = findAttribute(node, name);
  return attribute === undefined ? fallback : Number(attribute.i);
}

/** Float attribute, or `fallback` when the node does not carry it. */
export function floatAttribute(node: NodeProto, name: string, fallback: number): number {
  return findAttribute(node, name)?.f ?? fallback;
}

/** Text attribute; empty when the node does not carry it. */
export const textAttribute = (node: NodeProto, name: string): string =>
  new TextDecoder().decode(findAttribute(node, name)?.s);

/** Integer list attribute; `undefined` when the node does not carry it. */
export function intsAttribute(node: NodeProto, name: string): readonly number[] | undefined {
  return findAttribute(node, name)?.ints.map(Number);
}

/** Sets an integer attribute in place. */
export function setIntAttribute(node: NodeProto, name: string, value: number): void {
  replaceAttribute(
    node,
    create(AttributeProtoSchema, { name, type: AttributeProto_AttributeType.INT, i: BigInt(value) }),
  );
}

/** Sets an integer list attribute in place. */
export function setIntsAttribute(node: NodeProto, name: string, values: readonly number[]): void {
  replaceAttribute(
    node,
    create(AttributeProtoSchema, { name, type: AttributeProto_AttributeType.INTS, ints: values.map(BigInt) }),
  );
}

function replaceAttribute(node: NodeProto, attribute: AttributeProto): void {
  const at = node.attribute.findIndex(({ name }) => name === attribute.name);
  if (at < 0) node.attribute.push(attribute);
  else node.attribute[at] = attribute;
}
