// Every example of the documentation is code that runs, as a user would run it: the `ts` and `js` blocks of doc comments in
// lib and of docs/*.md, against the built package, imported by its name. `// => text` behind a console.log is what that
// prints, numbers to the digits given. CUDA examples are always compiled, and run where there is a device. Those of MPI, which starts
// once in a process, are compiled only: test/mpi.test.ts runs such programs.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { beforeAll, describe, expect, test } from 'vitest';
import { backends } from '../lib/index.js';

const root = fileURLToPath(new URL('..', import.meta.url)).replace(/\/$/, '');

interface Example {
  at: string; // file:line
  code: string;
  cuda: boolean;
  mpi: boolean;
}

const OPENING = /^(\s*\* )?```(?:ts|js)$/;

/** The fenced blocks of a file; in a doc comment every line starts with `*`. */
function examplesIn(file: string): Example[] {
  const lines = readFileSync(`${root}/${file}`, 'utf8').split('\n');
  return lines.flatMap((line, i) => {
    const opening = OPENING.exec(line);
    if (!opening) return [];
    const end = lines.findIndex((other, k) => k > i && other.endsWith('```'));
    const code = lines
      .slice(i + 1, end)
      .map((text) => (opening[1] === undefined ? text : text.replace(/^\s*\* ?/, '')));
    return [
      {
        at: `${file}:${i + 1}`,
        code: code.join('\n'),
        cuda: code.some((text) => text.includes("'rlvr-kernels/cuda'")),
        mpi: code.some((text) => text.includes("'rlvr-kernels/mpi'")),
      },
    ];
  });
}

function files(folder: string, extension: string): string[] {
  const names = readdirSync(`${root}/${folder}`, { recursive: true, encoding: 'utf8' });
  return names.filter((name) => name.endsWith(extension)).map((name) => `${folder}/${name}`);
}

const sources = [
  ...files('lib', '.ts'),
  ...files('docs', '.md').filter((name) => !name.startsWith('docs/api/')),
].sort();
const examples = sources.flatMap(examplesIn);

/** A program of these examples, each a module of its own in the package's folder, and of the package's entries. */
function compile(codes: readonly string[]) {
  const { config } = ts.readConfigFile(`${root}/tsconfig.json`, ts.sys.readFile);
  const parsed = ts.parseJsonConfigFileContent({ ...config, include: [], files: ['lib/index.ts'] }, ts.sys, root);
  const options = { ...parsed.options, noUnusedLocals: true };
  const virtual = new Map(codes.map((code, i) => [`${root}/example-${i}.mts`, code]));
  const host = ts.createCompilerHost(options);
  const { readFile, fileExists } = host;
  host.readFile = (name) => virtual.get(name) ?? readFile(name);
  host.fileExists = (name) => virtual.has(name) || fileExists(name);
  const entries = ['index', 'cuda/index', 'mpi/index', 'tfjs/index', 'jax/index', 'remote/index'].map(
    (name) => `${root}/lib/${name}.ts`,
  );
  const program = ts.createProgram([...virtual.keys(), ...entries], options, host);
  const complaints = [...virtual.keys()].map((name) => {
    const source = program.getSourceFile(name);
    return [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)].map(
      ({ start = 0, messageText }) => {
        const { line } = ts.getLineAndCharacterOfPosition(source!, start);
        return `line ${line + 1}: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`;
      },
    );
  });
  return { program, entries, complaints };
}

interface Outcome {
  error?: string;
  printed: Record<number, string>; // by line
}

const CLAIM = /^\s*console\.log\((.*)\); \/\/ => (.+)$/;

/** What an example says it prints, by line. */
function claims(code: string): Map<number, string> {
  return new Map(
    code.split('\n').flatMap((line, i) => (line.includes('// =>') ? [[i, CLAIM.exec(line)?.[2] ?? '']] : [])),
  );
}

/** As JavaScript that hands over what its claims print. */
function runnable(code: string): string {
  const marked = code.split('\n').map((line, i) => line.replace(CLAIM, `globalThis.__print(${i}, $1);`));
  const { outputText } = ts.transpileModule(marked.join('\n'), {
    compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022, verbatimModuleSyntax: true },
  });
  return outputText;
}

const RUNNER = `
import { format } from 'node:util';
const outcomes = [];
console.log = () => {};
let stray;
process.on('unhandledRejection', (reason) => { stray = String(reason?.stack ?? reason); });
for (let i = 0; i < Number(process.argv[2]); i++) {
  const printed = {};
  globalThis.__print = (line, ...values) => { printed[line] = line in printed ? 'more than once' : format(...values); };
  stray = undefined;
  const error = await import('./' + i + '.mjs').then(() => undefined, (thrown) => String(thrown?.stack ?? thrown));
  await new Promise(setImmediate);
  outcomes.push({ printed, error: error ?? stray });
}
process.stdout.write(JSON.stringify(outcomes));
`;

/** Runs examples one after the other in one process, in a folder of the package. */
function run(codes: readonly string[]): Outcome[] {
  mkdirSync(`${root}/build`, { recursive: true });
  const folder = mkdtempSync(`${root}/build/examples-`);
  try {
    codes.forEach((code, i) => {
      writeFileSync(`${folder}/${i}.mjs`, runnable(code));
    });
    writeFileSync(`${folder}/runner.mjs`, RUNNER);
    return JSON.parse(
      execFileSync(process.execPath, [`${folder}/runner.mjs`, `${codes.length}`], { encoding: 'utf8' }),
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const NUMBER = /-?\d+(?:\.\d+)?(?:e[-+]?\d+)?/g;

/** Whether the printed text is the claimed one: numbers with a decimal point as far as their digits go, all else exactly. */
function agrees(claimed: string, printed: string): boolean {
  const skeleton = (text: string) => text.replace(NUMBER, '#').replace(/\s+/g, ' ').trim();
  const numbers = printed.match(NUMBER) ?? [];
  if (skeleton(claimed) !== skeleton(printed)) return false;
  return (claimed.match(NUMBER) ?? []).every((text, i) => {
    const [, decimals, exponent = '0'] = /(?:\.(\d+))?(?:e([-+]?\d+))?$/.exec(text)!;
    const tolerance = decimals === undefined ? 0 : 0.5 * 10 ** (Number(exponent) - decimals.length);
    return Math.abs(Number(numbers[i]) - Number(text)) <= tolerance * (1 + 1e-9);
  });
}

/** What is wrong with how an example ran. */
function failuresOf(code: string, { error, printed }: Outcome): string[] {
  if (error !== undefined) return [error];
  return [...claims(code)].flatMap(([line, claimed]) => {
    if (claimed === '') return ['// => belongs behind a console.log'];
    return agrees(claimed, printed[line] ?? '') ? [] : [`it prints ${printed[line]}, not ${claimed}`];
  });
}

/** What an example must not be; compiled and run with the others, since a program takes seconds. */
const WRONG = [
  "import { conspo } from 'rlvr-kernels';\nvoid conspo({ logProbs: new Float32Array(1) });",
  "import { cosineMargin } from 'rlvr-kernels';\nconsole.log(cosineMargin({ warmup: 0 })(1)); // => 1",
  "import { cosineMargin } from 'rlvr-kernels';\nconsole.log(cosineMargin({ target: 1 })(1)); // => 2",
  "import { cosineMargin } from 'rlvr-kernels';\ncosineMargin(); // => 2",
];

test('claims are compared by the digits they give', () => {
  expect(agrees('0.69 [ 1, -2.5 ]', '0.6931471 [\n  1, -2.4999\n]')).toBe(true);
  expect(agrees('1.2e-7', '1.2345e-7')).toBe(true);
  for (const [claimed, printed] of [
    ['0.70', '0.6931'],
    ['1', '1.0001'],
    ['0.5', 'NaN'],
    ['1.2e-7', '1.2e-6'],
    ['0.5 0.5', '0.5'],
    ['true', 'false'],
  ])
    expect(agrees(claimed, printed), `${claimed} for ${printed}`).toBe(false);
});

describe('examples', () => {
  const hasDevice = backends().some(({ name, available }) => name === 'cuda' && available);
  const running = examples.filter(({ cuda, mpi }) => !mpi && (!cuda || hasDevice));
  const outcomes = new Map<string, Outcome>();
  let wrongOutcomes: Outcome[];
  let compiled: ReturnType<typeof compile>;

  beforeAll(() => {
    expect(existsSync(`${root}/dist/lib/index.js`), 'dist is missing: npm run build:ts').toBe(true);
    compiled = compile([...examples.map(({ code }) => code), ...WRONG]);
    const all = run([...running.map(({ code }) => code), ...WRONG]);
    running.forEach(({ at }, i) => {
      outcomes.set(at, all[i]);
    });
    wrongOutcomes = all.slice(running.length);
  }, 240_000); // a program with the types of TensorFlow.js

  test('compile', () => {
    const complaints = examples.flatMap(({ at }, i) => compiled.complaints[i].map((text) => `${at}, ${text}`));
    expect(complaints).toEqual([]);
  });

  test('wrong ones would be noticed', () => {
    expect(compiled.complaints.slice(examples.length).map(({ length }) => length > 0)).toEqual([
      true,
      false,
      false,
      false,
    ]);
    const failures = WRONG.map((code, i) => failuresOf(code, wrongOutcomes[i]));
    expect(failures[0][0]).toContain('RlvrError: cuSeqlens'); // nobody waits for it
    expect(failures[1][0]).toContain('RlvrError: warmup');
    expect(failures.slice(2)).toEqual([['it prints 1, not 2'], ['// => belongs behind a console.log']]);
  });

  test('are there for every public function and class', () => {
    const checker = compiled.program.getTypeChecker();
    const symbols = compiled.entries.flatMap((entry) => {
      const module = checker.getSymbolAtLocation(compiled.program.getSourceFile(entry)!)!;
      return checker
        .getExportsOfModule(module)
        .map((symbol) => ({ name: symbol.name, symbol: resolved(checker, symbol) }));
    });
    const values = symbols.filter(({ symbol }) => symbol.flags & ts.SymbolFlags.Value);
    expect(values.length).toBeGreaterThan(40);
    const isTwin = ({ name, symbol }: (typeof values)[number]) => {
      const text = ts.displayPartsToString(symbol.getDocumentationComment(checker));
      return name.endsWith('Sync') && text === `{@link ${name.slice(0, -4)}}, blocking.`;
    };
    const lacking = values.filter(
      (value) => !isTwin(value) && !value.symbol.getJsDocTags(checker).some(({ name }) => name === 'example'),
    );
    expect(lacking.map(({ name }) => name)).toEqual([]);
  });

  test.each(running.map(({ at, code }) => [at, code]))('%s', (at, code) => {
    expect(failuresOf(code, outcomes.get(at)!)).toEqual([]);
  });
});

function resolved(checker: ts.TypeChecker, symbol: ts.Symbol): ts.Symbol {
  return symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
}

test('docs/metrics.md has every metric, docs/losses.md every loss', () => {
  const read = (name: string) => readFileSync(`${root}/${name}`, 'utf8');
  const metrics = [
    ...read('lib/losses/metrics.ts')
      .split('interface Measured')[0]
      .matchAll(/^ {2}(\w+)\??: number;/gm),
  ];
  const losses = [...read('lib/index.ts').matchAll(/(\w+)Sync[\s,}].*from '\.\/losses\//g)].filter(
    ([, n]) => n !== 'AnyLoss',
  );
  expect([metrics.length > 15, losses.length]).toEqual([true, 14]);
  const missing = [
    ...metrics.filter(([, name]) => !read('docs/metrics.md').includes(`| \`${name}\` |`)),
    ...losses.filter(([, name]) => !read('docs/losses.md').includes(`| \`${name}\` |`)),
  ];
  expect(missing.map(([, name]) => name)).toEqual([]);
});
