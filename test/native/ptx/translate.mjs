// Translates PTX to C++ for native/emulation: each kernel becomes a function that runs one thread.
//
//   node test/native/ptx/translate.mjs kernels.ptx kernels.cpp
//
// `#line` makes compilers, sanitizers and the emulation name lines of the PTX.

import { readFileSync, writeFileSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cppType, KernelWriter, labelName } from './kernel.mjs';
import { parse } from './parse.mjs';

/** @typedef {import('./parse.mjs').Kernel} Kernel */
/** @typedef {import('./parse.mjs').Variable} Variable */

/** Between shared variables, so that what leaves one does not enter the next. */
const GAP = 64;
const MOST_THREADS = 1024;

/** nvcc gives the anonymous namespace a name for each file, g++ always the same. @param {string} mangled */
export function asMangledByGcc(mangled) {
  const pattern = /(\d+)(?=_GLOBAL__N_)/;
  const match = pattern.exec(mangled);
  if (!match) return mangled;
  const end = match.index + match[1].length + Number(match[1]);
  return `${mangled.slice(0, match.index)}12_GLOBAL__N_1${mangled.slice(end)}`;
}

/** @param {readonly Variable[]} variables */
function layOut(variables) {
  let end = 0;
  return variables.map(({ name, align, bytes }) => {
    const offset = Math.ceil(end / align) * align;
    end = offset + bytes + GAP;
    return { name, offset, bytes };
  });
}

/** @param {ReturnType<typeof layOut>} variables @returns {string[]} */
function sharedMemory(variables) {
  const last = variables.at(-1);
  if (!last) return [];
  const items = variables.map(({ offset, bytes }) => `{${offset}, ${bytes}}`);
  return [
    `alignas(128) __shared__ unsigned char shared_memory[${last.offset + last.bytes}];`,
    `constexpr SharedVariable kVariables[] = {${items.join(', ')}};`,
    'constexpr Window kShared(shared_memory, kVariables);',
  ];
}

/**
 * Statements with the `#line`s that they need.
 *
 * @param {{ text: string, line: number }[]} statements @param {string} file
 */
function withLines(statements, file) {
  let next = -1;
  return statements.flatMap(({ text, line }) => {
    const jump = line === next ? [] : [`#line ${line} "${file}"`];
    next = line + 1;
    return [...jump, `  ${text}`];
  });
}

/** @param {Kernel} kernel @param {number} number @param {string} file @param {ReadonlyMap<string, number>} shared */
function writeKernel(kernel, number, file, shared) {
  const writer = new KernelWriter(kernel, file, shared);
  for (const item of kernel.body) if ('targets' in item) writer.targets.set(item.label, item.targets);
  const statements = kernel.body.flatMap((item) => {
    if ('targets' in item) return [];
    return [{ item, text: 'label' in item ? `${labelName(item.label)}:;` : writer.statement(item), line: item.line }];
  });
  const used = statements.filter(({ item }) => !('label' in item) || writer.usedLabels.has(labelName(item.label)));
  const names = new Set(used.flatMap(({ text }) => text.match(/\w+/g) ?? []));
  const registers = kernel.registers.filter(({ name }) => names.has(name));
  return [
    `#line ${kernel.line} "${file}"`,
    `void kernel_${number}([[maybe_unused]] const unsigned char* const* parameters) {`,
    ...registers.map(({ name, bits }) => {
      const type = cppType(bits === 1 ? 'pred' : `b${bits}`);
      return `  [[maybe_unused]] ${type} ${name} = static_cast<${type}>(kUndefined);`;
    }),
    ...kernel.locals.flatMap(({ name, align, bytes }) => {
      const local = labelName(name);
      return [`  alignas(${align}) unsigned char ${local}[${bytes}];`, `  std::memset(${local}, 0xff, ${bytes});`];
    }),
    ...withLines(used, file),
    '}',
  ];
}

/** @param {Kernel} kernel @param {number} number */
function registration({ name, parameters, maxThreads }, number) {
  const sizes = parameters.map(({ bytes }) => bytes).join(', ');
  return `    {"${asMangledByGcc(name)}", {${sizes}}, ${maxThreads || MOST_THREADS}, kernel_${number}},`;
}

/** @param {string} ptx @param {string} file for messages and `#line` @returns {string} */
export function translate(ptx, file) {
  const module = parse(ptx, file);
  const variables = layOut(module.shared);
  const shared = new Map(variables.map(({ name, offset }) => [name, offset]));
  return [
    '#include "ptx/memory.h"',
    '#include "ptx/numbers.h"',
    '#include "ptx/warp.h"',
    '',
    'namespace rlvr::ptx {',
    'namespace {',
    '',
    ...sharedMemory(variables),
    '',
    ...module.kernels.flatMap((kernel, i) => [...writeKernel(kernel, i, file, shared), '']),
    'const emulation::detail::Translations registered{',
    ...module.kernels.map(registration),
    '};',
    '',
    '}  // namespace',
    '}  // namespace rlvr::ptx',
    '',
  ].join('\n');
}

if (process.argv[1] && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const [from, to] = process.argv.slice(2);
  try {
    writeFileSync(to, translate(readFileSync(from, 'utf8'), basename(from)));
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    console.error(error.message);
    process.exitCode = 1;
  }
}
