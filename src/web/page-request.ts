import type { FolderOption } from './mount-places.js';
import type { ChosenFile, WebPlace } from './web-place.js';

/** A model's folder, or its `.onnx` file. A path lies in the origin's private file system; what is none may be a name of the Hub. */
export type PageFolder = string | WebPlace | ChosenFile;

/** A file that is read. A path lies in the origin's private file system. */
export type PageFile = string | ChosenFile;

/**
 * A request as a page makes it: folders are directory handles, maps of bytes or lists of chosen files, and files are files. What
 * no browser has is left out: threads by number.
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
