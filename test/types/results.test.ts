// Compiles results.test-d.ts and adapters.test-d.ts, and shows that it can fail; and exact.test-d.ts, with the flag that it is for.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { expect, test } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const text = readFileSync(new URL('./results.test-d.ts', import.meta.url), 'utf8');

// One program for all of them: a program takes the compiler seconds, most of them for the library's own types.
const [asItIs, adapters, wrong, unused] = complaints([
  text,
  readFileSync(new URL('./adapters.test-d.ts', import.meta.url), 'utf8'),
  text.replace(
    'expectType<Float32Array>()(array.gradLogits, true)',
    'expectType<HostTensor>()(array.gradLogits, true)',
  ),
  `${text}\n// @ts-expect-error nothing is wrong here\nconspo(fromArray);\n`,
]);

/** The compiler's complaints about each of these files, if it stood beside this one. */
function complaints(texts: readonly string[], more: ts.CompilerOptions = {}): string[][] {
  const virtual = new Map(texts.map((content, i) => [`${root}test/types/results-${i}.ts`, content]));
  const { config } = ts.readConfigFile(`${root}/tsconfig.json`, ts.sys.readFile);
  const files = [...virtual.keys()];
  const parsed = ts.parseJsonConfigFileContent({ ...config, include: [], files }, ts.sys, root);
  const options = { ...parsed.options, ...more };
  const host = ts.createCompilerHost(options);
  const { readFile, fileExists } = host;
  host.readFile = (name) => virtual.get(name) ?? readFile(name);
  host.fileExists = (name) => virtual.has(name) || fileExists(name);
  const program = ts.createProgram(files, options, host);
  const general = program.getOptionsDiagnostics();
  return files.map((name) => {
    const source = program.getSourceFile(name)!;
    const own = [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)];
    return [...general, ...own].map(({ start = 0, messageText }) => {
      const { line } = ts.getLineAndCharacterOfPosition(source, start);
      return `line ${line + 1}: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`;
    });
  });
}

test('the types of results', () => {
  expect(asItIs).toEqual([]);
});

test('the types of adapters, with those of the frameworks', () => {
  expect(adapters).toEqual([]);
});

test('what is left out may be undefined under exactOptionalPropertyTypes', () => {
  const exact = readFileSync(new URL('./exact.test-d.ts', import.meta.url), 'utf8');
  expect(complaints([exact], { exactOptionalPropertyTypes: true })).toEqual([[]]);
});

test('a wrong expectation does not compile', () => {
  expect(wrong.length).toBe(1);
  expect(unused).toEqual([expect.stringContaining('Unused')]);
});
