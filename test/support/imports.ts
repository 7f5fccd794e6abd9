// Which file imports which, types counted, and what is wrong with that.
import { readdirSync, readFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import ts from 'typescript';

/** Files, from the root, and what each imports of them. */
export type ImportGraph = ReadonlyMap<string, readonly string[]>;

/** Files of some folders with one of the extensions, from the root, with their texts. */
export function sourceFiles(root: string, folders: readonly string[], extensions: RegExp): Map<string, string> {
  const names = folders.flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
      .map((name) => posix.join(folder, name.replaceAll('\\', '/')))
      .filter((name) => extensions.test(name) && !name.includes('node_modules')),
  );
  return new Map(names.map((name) => [name, readFileSync(join(root, name), 'utf8')]));
}

/** Of TypeScript: `import`, `import type`, `export from` and `import()`, in code and in types. */
export function typescriptImports(files: ReadonlyMap<string, string>): ImportGraph {
  return new Map(
    [...files].map(([file, text]) => {
      const imported = ts.preProcessFile(text, true, true).importedFiles.map(({ fileName }) => fileName);
      const own = imported.filter((name) => name.startsWith('.'));
      return [file, own.map((name) => posix.join(posix.dirname(file), name).replace(/\.js$/, '.ts'))];
    }),
  );
}

/** Of C++: `#include "..."`, from native/. A header and the source of its name are one module. */
export function nativeIncludes(files: ReadonlyMap<string, string>): ImportGraph {
  const moduleOf = (file: string) => file.replace(/\.\w+$/, '');
  const graph = new Map<string, string[]>();
  for (const [file, text] of files) {
    const included = [...text.matchAll(/^#include "([^"]+)"/gm)].map(([, name]) => moduleOf(`native/${name}`));
    const others = included.filter((name) => name !== moduleOf(file));
    graph.set(moduleOf(file), [...(graph.get(moduleOf(file)) ?? []), ...others]);
  }
  return graph;
}

/** Sets of files that reach each other, each sorted (Tarjan's strongly connected components of more than one file). */
export function circles(graph: ImportGraph): string[][] {
  const found: string[][] = [];
  const index = new Map<string, number>();
  const low = new Map<string, number>();
  const path: string[] = [];
  const visit = (file: string): void => {
    index.set(file, index.size);
    low.set(file, index.size - 1);
    path.push(file);
    const lower = (value = 0) => low.set(file, Math.min(low.get(file) ?? 0, value));
    for (const next of graph.get(file) ?? []) {
      if (!index.has(next)) {
        visit(next);
        lower(low.get(next));
      } else if (path.includes(next)) lower(index.get(next));
    }
    if (low.get(file) !== index.get(file)) return;
    const circle = path.splice(path.indexOf(file));
    if (circle.length > 1 || graph.get(file)?.includes(file)) found.push(circle.sort());
  };
  for (const file of graph.keys()) if (!index.has(file)) visit(file);
  return found;
}

/** Rows of files and folders, from the top of a layout to its bottom. */
export type Layout = readonly (readonly string[])[];

/** The row of the longest entry that a file lies in; -1 for none. */
function rowOf(layout: Layout, file: string): number {
  const fits = (entry: string) => file === entry || (entry.endsWith('/') && file.startsWith(entry));
  const entries = layout.flatMap((row, at) => row.filter(fits).map((entry) => ({ at, length: entry.length })));
  return entries.sort((a, b) => b.length - a.length)[0]?.at ?? -1;
}

/** Imports that do not run down a layout, and files that it has no row for. */
export function arrowsUp(graph: ImportGraph, layout: Layout): string[] {
  const wrong: string[] = [];
  for (const [file, imports] of graph) {
    const at = rowOf(layout, file);
    if (at === -1) wrong.push(`${file} is in no row of the layout`);
    for (const imported of imports)
      if (rowOf(layout, imported) < at) wrong.push(`${file} imports ${imported}, above it`);
  }
  return wrong;
}

/** The rows of the first table below a heading of a Markdown text: what stands in backticks in its first column. */
export function layoutTable(markdown: string, heading: string): Layout {
  const below = markdown.slice(markdown.indexOf(`\n${heading}\n`));
  const rows =
    below
      .match(/(?:^\|.*\n)+/m)?.[0]
      .trim()
      .split('\n')
      .slice(2) ?? [];
  return rows.map((row) => [...row.split('|')[1].matchAll(/`([^`]+)`/g)].map(([, path]) => path));
}
