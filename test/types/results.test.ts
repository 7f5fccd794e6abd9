// Compiles results.test-d.ts, and shows that it can fail.
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { expect, test } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const file = fileURLToPath(new URL('./results.test-d.ts', import.meta.url));

/** The compiler's complaints about the file, with its text changed. */
function complaints(change: (text: string) => string = (text) => text): string[] {
  const { config } = ts.readConfigFile(`${root}/tsconfig.json`, ts.sys.readFile);
  const { options } = ts.parseJsonConfigFileContent({ ...config, include: [], files: [file] }, ts.sys, root);
  const host = ts.createCompilerHost(options);
  const { readFile } = host;
  host.readFile = (name) => (name === file ? change(readFile(name) ?? '') : readFile(name));
  const program = ts.createProgram([file], options, host);
  return ts
    .getPreEmitDiagnostics(program)
    .filter((diagnostic) => diagnostic.file?.fileName.startsWith(root) !== false)
    .map(({ file: at, start = 0, messageText }) => {
      const line = at ? at.getLineAndCharacterOfPosition(start).line + 1 : 0;
      return `line ${line}: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`;
    });
}

test('the types of results', () => {
  expect(complaints()).toEqual([]);
});

test('a wrong expectation does not compile', () => {
  const wrong = complaints((text) =>
    text.replace(
      'expectType<Float32Array>()(array.gradLogits, true)',
      'expectType<HostTensor>()(array.gradLogits, true)',
    ),
  );
  expect(wrong.length).toBe(1);
  const unused = complaints((text) => `${text}\n// @ts-expect-error nothing is wrong here\nconspo(fromArray);\n`);
  expect(unused).toEqual([expect.stringContaining('Unused')]);
});
