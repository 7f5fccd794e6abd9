// Types for `require`, after tsc: what the declarations of an ES module export, for CommonJS sources.
import { writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { commonJsEntries } from './entries.mjs';

const MODE = "{ 'resolution-mode': 'import' }";

/** @param {string} entry without extension, below dist/lib */
function declarations(entry) {
  const file = fileURLToPath(new URL(`../dist/lib/${entry}.d.ts`, import.meta.url));
  const options = { module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext };
  const program = ts.createProgram([file], options);
  const checker = program.getTypeChecker();
  const source = program.getSourceFile(file);
  const module = source && checker.getSymbolAtLocation(source);
  if (!module) throw new Error(`${file}: no module; run tsc first`);
  const exported = checker.getExportsOfModule(module);
  const values = exported.filter((symbol) => isValue(symbol, checker)).map(({ name }) => name);
  const types = exported.filter((symbol) => !isValue(symbol, checker)).map(({ name }) => name);
  const classes = exported.filter((symbol) => isClass(symbol, checker)).map(({ name }) => name);
  const from = `./${basename(entry)}.js`;
  const esm = `import('${from}', { with: ${MODE} })`;
  return [
    ...values.map((name) => `export declare const ${name}: typeof ${esm}.${name};`),
    ...classes.map((name) => `export type ${name} = ${esm}.${name};`),
    ...(types.length > 0 ? [`export type { ${types.join(', ')} } from '${from}' with ${MODE};`] : []),
    '',
  ].join('\n');
}

/** @param {ts.Symbol} symbol @param {ts.TypeChecker} checker */
function target(symbol, checker) {
  return symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
}

/** @param {ts.Symbol} symbol @param {ts.TypeChecker} checker */
function isValue(symbol, checker) {
  const typeOnly = symbol.declarations?.some(
    (declaration) => ts.isExportSpecifier(declaration) && ts.isTypeOnlyExportDeclaration(declaration),
  );
  return !typeOnly && (target(symbol, checker).flags & ts.SymbolFlags.Value) !== 0;
}

/** @param {ts.Symbol} symbol @param {ts.TypeChecker} checker */
function isClass(symbol, checker) {
  return isValue(symbol, checker) && (target(symbol, checker).flags & ts.SymbolFlags.Class) !== 0;
}

for (const entry of commonJsEntries()) {
  writeFileSync(new URL(`../dist/lib/${entry}.d.cts`, import.meta.url), declarations(entry));
}
