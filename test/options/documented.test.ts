import { readFileSync } from 'node:fs';
import ts from 'typescript';
import { sourceFiles } from '../support/read-imports.js';

/** Interfaces that callers fill in. */
const FILLED_IN = /(Request|Options|Control|Choice|Windows|Evaluation)$/;

/** Those that only the library fills in. */
const INTERNAL =
  /^(Resolved|WidthProbe|Run|OutputPath|Job|Planned|Write|Variants|Cost|HealingCost|Folder(Request))\w*(Options|Request|Windows)$/;

/** Sources of the calls and their options. */
const SOURCES = sourceFiles()
  .filter((file) => /^src\/(options|pipeline|progress|storage\/model-folder|platform\/platform|processes)/.test(file))
  .map((file) => ts.createSourceFile(file, readFileSync(file, 'utf8'), ts.ScriptTarget.ES2022, true));

/** Options without a comment, as `Interface.option`. */
function undocumented(source: ts.SourceFile): string[] {
  return source.statements.flatMap((statement) => {
    const isExported =
      ts.isInterfaceDeclaration(statement) &&
      statement.modifiers?.some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword);
    const name = isExported ? statement.name.text : '';
    if (!isExported || !FILLED_IN.test(name) || INTERNAL.test(name)) return [];
    return [...statement.members.filter(ts.isPropertySignature), ...rowsBehind(statement)]
      .filter((option) => ts.getJSDocCommentsAndTags(option).length === 0)
      .map((option) => `${name}.${option.name?.getText()}`);
  });
}

/** Rows that an interface is derived from: `OptionsOf<typeof ROWS>`, of its own file or of another. */
function rowsBehind(statement: ts.InterfaceDeclaration): readonly ts.PropertyAssignment[] {
  const own = constantsOf(statement.getSourceFile());
  const clauses = (statement.heritageClauses ?? []).map((clause) => clause.getText()).join();
  return [...clauses.matchAll(/OptionsOf<typeof (\w+)>/g)].flatMap(([, name]) => {
    const rows = propertiesOf(own.get(name!) ?? CONSTANTS.get(name!));
    if (rows.length === 0) throw new Error(`${name} has no rows`);
    return rows;
  });
}

const constantsOf = ({ statements }: ts.SourceFile) =>
  new Map(
    statements
      .filter(ts.isVariableStatement)
      .flatMap(({ declarationList }) => [...declarationList.declarations])
      .map(({ name, initializer }) => [name.getText(), initializer] as const),
  );

const CONSTANTS = new Map(SOURCES.flatMap((source) => [...constantsOf(source)]));

function propertiesOf(given: ts.Expression | undefined): readonly ts.PropertyAssignment[] {
  let object = given;
  while (object && (ts.isSatisfiesExpression(object) || ts.isAsExpression(object))) object = object.expression;
  return object && ts.isObjectLiteralExpression(object) ? object.properties.filter(ts.isPropertyAssignment) : [];
}

it('every option of the calls has a comment', () => {
  expect(SOURCES.flatMap(undocumented)).toEqual([]);
});
