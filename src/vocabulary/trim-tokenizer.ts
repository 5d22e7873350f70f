import { isRecord } from '../parse-json.js';
import type { RenumberedIds } from './renumbered-ids.js';
import { isId } from './token-ids-in-documents.js';
import { splitMerge, type TokenizerFile } from './tokenizer-file.js';

type Json = Readonly<Record<string, unknown>>;

/** The tokenizer.json of the remaining tokens, with the merges among them, and new ids. */
export function trimTokenizer({ json, merges }: TokenizerFile, ids: RenumberedIds): Json {
  const model = json.model as Json;
  const remains = (id: number) => ids.newId(id) !== undefined;
  const given = Array.isArray(model.merges) ? model.merges : [];
  const remaining = given.filter((_, rank) => {
    const { left, right, result } = merges[rank]!;
    return remains(left) && remains(right) && remains(result);
  });
  return {
    ...json,
    ...(json.added_tokens !== undefined && { added_tokens: renumberAdded(json.added_tokens, ids) }),
    ...(json.padding !== undefined && { padding: renumberPadding(json.padding, ids) }),
    ...(json.post_processor !== undefined && { post_processor: renumberProcessor(json.post_processor, ids) }),
    model: {
      ...model,
      vocab: trimVocab(model.vocab, ids),
      ...(model.merges !== undefined && { merges: remaining }),
      ...(typeof model.unk_id === 'number' && { unk_id: ids.newId(model.unk_id) }),
    },
  };
}

function trimVocab(vocab: unknown, ids: RenumberedIds): unknown {
  if (Array.isArray(vocab)) return vocab.filter((_, id) => ids.newId(id) !== undefined);
  const pairs = Object.entries(vocab as Record<string, number>).map(([token, id]) => [token, ids.newId(id)] as const);
  return Object.fromEntries(pairs.filter(([, id]) => id !== undefined));
}

const renumberAdded = (tokens: unknown, ids: RenumberedIds): unknown =>
  Array.isArray(tokens) ? tokens.map((token) => ({ ...token, id: ids.newId(Object(token).id) })) : tokens;

const renumberPadding = (padding: unknown, ids: RenumberedIds): unknown =>
  isRecord(padding) && typeof padding.pad_id === 'number'
    ? { ...padding, pad_id: ids.newId(padding.pad_id) ?? padding.pad_id }
    : padding;

/** `TemplateProcessing` lists ids by token, `BertProcessing` and `RobertaProcessing` have `[token, id]`. */
function renumberProcessor(processor: unknown, ids: RenumberedIds): unknown {
  if (!isRecord(processor)) return processor;
  const { processors, special_tokens: special, sep, cls } = processor;
  const renumbered = (id: unknown) => (typeof id === 'number' ? (ids.newId(id) ?? id) : id);
  const pair = (value: unknown) => (Array.isArray(value) ? value.map(renumbered) : value);
  return {
    ...processor,
    ...(Array.isArray(processors) && { processors: processors.map((inner) => renumberProcessor(inner, ids)) }),
    ...(isRecord(special) && {
      special_tokens: Object.fromEntries(
        Object.entries(special).map(([name, token]) => [
          name,
          isRecord(token) && Array.isArray(token.ids) ? { ...token, ids: token.ids.map(renumbered) } : token,
        ]),
      ),
    }),
    ...(sep !== undefined && { sep: pair(sep) }),
    ...(cls !== undefined && { cls: pair(cls) }),
  };
}

/** Ids in a tokenizer.json outside its vocabulary; an id of padding may be that of a row without a token. */
export function idsNamedByTokenizer({ json }: TokenizerFile): readonly number[] {
  const found: unknown[] = [];
  const collect = (processor: unknown): void => {
    if (!isRecord(processor)) return;
    const { processors, special_tokens: special, sep, cls } = processor;
    if (Array.isArray(processors)) processors.forEach(collect);
    for (const token of Object.values(isRecord(special) ? special : {})) found.push(...[Object(token).ids].flat());
    for (const pair of [sep, cls]) if (Array.isArray(pair)) found.push(pair[1]);
  };
  collect(json.post_processor);
  found.push(Object(json.padding).pad_id, Object(json.model).unk_id);
  return found.filter(isId);
}

/** Contents of GPT-2's `merges.txt`, next to its `vocab.json`. */
export function formatMerges(tokenizerJson: Json): string {
  const { merges } = tokenizerJson.model as Json;
  const lines = (Array.isArray(merges) ? merges : []).map((merge) => splitMerge(merge).join(' '));
  return ['#version: 0.2', ...lines, ''].join('\n');
}
