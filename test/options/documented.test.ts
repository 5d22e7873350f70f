import { readFileSync } from 'node:fs';
import ts from 'typescript';
import { sourceFiles } from '../support/read-imports.js';

/** Interfaces that callers fill in. */
const FILLED_IN = /(Request|Options|Control|Choice|Windows|Evaluation)$/;

/** Those that only the library fills in. */
const INTERNAL =
  /^(Resolved|WidthProbe|Run|Place|Job|Planned|Write|Variants|Cost|HealingCost|Folder(Request))\w*(Options|Request|Windows)$/;

/** Options without a comment, as `Interface.option`. */
function undocumented(file: string): string[] {
  const source = ts.createSourceFile(file, readFileSync(file, 'utf8'), ts.ScriptTarget.ES2022, true);
  return source.statements.flatMap((statement) => {
    const isExported =
      ts.isInterfaceDeclaration(statement) &&
      statement.modifiers?.some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword);
    const name = isExported ? statement.name.text : '';
    if (!isExported || !FILLED_IN.test(name) || INTERNAL.test(name)) return [];
    return statement.members
      .filter((member) => ts.isPropertySignature(member) && ts.getJSDocCommentsAndTags(member).length === 0)
      .map((member) => `${statement.name.text}.${member.name?.getText(source)}`);
  });
}

it('every option of the calls has a comment', () => {
  const files = sourceFiles().filter((file) =>
    /^src\/(options|pipeline|bench|progress|storage\/model-folder|platform\/platform|isolation)/.test(file),
  );
  expect(files.flatMap(undocumented)).toEqual([]);
});
