import type { FolderOption } from './mount-places.js';
import type { ChosenFile, WebPlace } from './web-place.js';

/** A model's folder, or its `.onnx` file. A path refers to the origin's private file system; other names may be models of the Hub. */
export type PageFolder = string | WebPlace | ChosenFile;

/** A file to read. A path refers to the origin's private file system. */
export type PageFile = string | ChosenFile;

/**
 * A request of a page: folders are directory handles, maps of bytes or lists of chosen files. The option `threads` is omitted,
 * since no browser supports it.
 */
export type InPage<Request> = Request extends object
  ? {
      readonly [Name in keyof Request as Exclude<Name, 'threads'>]: OptionInPage<Name, Request[Name]>;
    }
  : Request;

type OptionInPage<Name, Value> = Name extends FolderOption
  ? PageFolder | Extract<Value, undefined>
  : Name extends 'models'
    ? readonly PageFolder[]
    : Name extends 'file' | 'text' | 'test' | 'embeddings'
      ? PageFile | Extract<Value, undefined>
      : Name extends 'texts' | 'tasks'
        ? readonly PageFile[] | Extract<Value, undefined>
        : Name extends 'vocabulary'
          ? PageFile | Value
          : Name extends 'source'
            ? SourceInPage<Value>
            : Name extends 'calibration' | 'evaluation'
              ? InPage<Value>
              : Value;

type SourceInPage<Source> = Source extends { readonly file: string } ? { readonly file: PageFile } : Source;
