import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import ts from 'typescript';

/** One import or re-export of a source file. */
export interface Import {
  /** Importing file, from the repository's root: `src/prune.ts`. */
  readonly file: string;
  /** Imported file for a relative import (`src/options.ts`), else the module's name. */
  readonly target: string;
  readonly isRelative: boolean;
  /** Erased by the compiler: `import type`, or only `type` specifiers. */
  readonly isTypeOnly: boolean;
}

/** Every import of the sources under `src/`. */
export function readImports(): Import[] {
  return sourceFiles().flatMap((file) => {
    const found: Import[] = [];
    const visit = (node: ts.Node): void => {
      const specifier = specifierOf(node);
      if (specifier !== undefined) found.push(toImport(file, specifier, isTypeOnly(node)));
      ts.forEachChild(node, visit);
    };
    visit(ts.createSourceFile(file, readFileSync(file, 'utf8'), ts.ScriptTarget.Latest));
    return found;
  });
}

/** Every source file under `src/`. */
export function sourceFiles(): string[] {
  return readdirSync('src', { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts'))
    .map((path) => join('src', path).replaceAll('\\', '/'));
}

function specifierOf(node: ts.Node): string | undefined {
  if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) return literalText(node.moduleSpecifier);
  if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) return literalText(node.argument.literal);
  if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword)
    return literalText(node.arguments[0]);
  return undefined;
}

function literalText(node: ts.Node | undefined): string | undefined {
  return node && ts.isStringLiteral(node) ? node.text : undefined;
}

function isTypeOnly(node: ts.Node): boolean {
  if (ts.isImportTypeNode(node)) return true;
  if (ts.isExportDeclaration(node)) return node.isTypeOnly;
  if (!ts.isImportDeclaration(node) || !node.importClause) return false;
  const { isTypeOnly, name, namedBindings } = node.importClause;
  if (isTypeOnly) return true;
  return (
    !name && !!namedBindings && ts.isNamedImports(namedBindings) && namedBindings.elements.every((e) => e.isTypeOnly)
  );
}

function toImport(file: string, specifier: string, isTypeOnly: boolean): Import {
  const isRelative = specifier.startsWith('.');
  const target = isRelative ? normalize(join(dirname(file), specifier.replace(/\.js$/, '.ts'))) : specifier;
  return { file, target: target.replaceAll('\\', '/'), isRelative, isTypeOnly };
}
