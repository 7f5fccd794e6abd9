// The part of check-binary.mjs that disassembles: which instructions there are, and in which functions.

import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * @typedef {{ begin: number, end: number, name: string, source: string }} Code a function, and the file it came from
 * @typedef {{ kind: string, allowed: (code: Code) => boolean, found: (mnemonic: string, operands: string) => boolean }} Rule
 */

const root = fileURLToPath(new URL('..', import.meta.url));
const english = { ...process.env, LC_ALL: 'C' };

/** @param {string} file @param {string[]} options @returns {string} */
export function readelf(file, options) {
  return execFileSync('readelf', ['--wide', ...options, file], { encoding: 'utf8', maxBuffer: 1 << 28, env: english });
}

/** The rows of a symbol table, as words. @param {string} file @param {string[]} options @returns {string[][]} */
export function rowsOf(file, options) {
  const rows = readelf(file, options).split('\n');
  return rows.map((row) => row.trim().split(/\s+/)).filter(([number]) => /^\d+:$/.test(number ?? ''));
}

/** @param {string} file @returns {string | undefined} */
function buildId(file) {
  return /Build ID: (\w+)/.exec(readelf(file, ['--notes']))?.[1];
}

/** @param {string} file @returns {boolean} */
function hasSymbols(file) {
  return readelf(file, ['--section-headers']).includes(' .symtab ');
}

/** The same build with symbols, where prebuild.mjs leaves it. @param {string} file @returns {string | undefined} */
export function findUnstripped(file) {
  if (hasSymbols(file)) return file;
  const twin = join(root, 'build-prebuild', basename(dirname(file)), 'cmake', 'Release', 'rlvr_kernels.node');
  return existsSync(twin) && buildId(twin) !== undefined && buildId(twin) === buildId(file) ? twin : undefined;
}

/** @param {RegExp} pattern @returns {(mnemonic: string) => boolean} */
const named = (pattern) => (mnemonic) => pattern.test(mnemonic);

/** Our files that use AVX2, FMA and F16C, or AVX-512, where the processor has them. @param {Code} code */
const inAvxFile = ({ source }) => /_avx(2|512)\.cpp$/.test(source);
/** @param {Code} code */
const inAvx512File = ({ source }) => /_avx512\.cpp$/.test(source);
/** libgcc's atomics, which check the processor themselves. @param {Code} code */
const isOutlineAtomic = ({ name }) => name.startsWith('__aarch64_');
/** mingw's conversions of numbers, with a bsf for any processor: newer ones take its prefix for tzcnt. @param {Code} code */
const isPrefixedBsf = ({ name }) => /^__(trailz|d2b)_D2A$/.test(name);
const never = () => false;

const BMI = /^(andn|bextr|bls(i|r|msk)|bzhi|mulx|pdep|pext|rorx|sarx|shlx|shrx|[lt]zcnt|movbe|ad[co]x)[lqw]?$/;
const SSE3_OR_LATER = new RegExp(
  `^(${[
    'h(add|sub)p[sd]|addsubp[sd]|lddqu|mov(d|sl|sh)dup', // 3
    'p(shufb|alignr|abs[bwd]|sign[bwd]|h(add|sub)(w|d|sw)|mulhrsw|maddubsw)', // supplemental 3
    'p?blendv?(ps|pd|b|w)|round[ps][sd]|insertps|extractps|dpp[sd]|ptest|pmov[sz]x(bw|bd|bq|wd|wq|dq)', // 4.1
    'pm(ax|in)(sb|sd|uw|ud)|pmuldq|pmulld|pcmpeqq|packusdw|phminposuw|mpsadbw|p(ins|ext)r[bdq]|movntdqa', // 4.1
    'pcmpgtq|pcmp[ei]str[im]|crc32[bwlq]?|popcnt[lqw]?', // 4.2
    'aes(enc|dec|imc|keygen)\\w*|pclmul\\w*|sha(1|256)\\w+|gf2p8\\w+',
  ].join('|')})$`,
);

/** Instructions that not every processor of an architecture has. @type {Record<string, Rule[]>} */
const RULES = {
  x64: [
    {
      kind: 'AVX-512',
      allowed: inAvx512File,
      found: (_, operands) => /%zmm|%[xy]mm(1[6-9]|2\d|3[01])\b|%k[0-7]\b/.test(operands),
    },
    // Every mnemonic with v has a VEX or EVEX prefix, except those about segments and virtual machines.
    {
      kind: 'AVX',
      allowed: inAvxFile,
      found: named(/^v(?!err$|erw$|m(call|clear|launch|resume|ptr|read|write|x|func))/),
    },
    { kind: 'BMI', allowed: isPrefixedBsf, found: named(BMI) },
    { kind: 'SSE3 or later', allowed: never, found: named(SSE3_OR_LATER) },
  ],
  arm64: [
    { kind: 'SVE', allowed: never, found: (_, operands) => /\b[zp]\d+(\.[bhsdq]|\/[mz])/.test(operands) },
    {
      kind: 'LSE atomics',
      allowed: isOutlineAtomic,
      found: named(/^((ld|st)(add|clr|eor|set|[su]max|[su]min)(a|l|al)?[bh]?|swp(a|l|al)?[bh]?|casp?(a|l|al)?[bh]?)$/),
    },
    {
      kind: 'ARMv8.1 or later',
      allowed: never,
      found: (mnemonic, operands) =>
        /^([su]dot|[su]mmla|bf\w+dot|bfmmla|bfcvt\w*|sqrdml[as]h|fcmla|fcadd|fmlal2?|crc32\w*|aes\w+|sha\d+\w*|ldapr[bh]?)$/.test(
          mnemonic,
        ) ||
        (/^f(?!cvt|mov)/.test(mnemonic) && /\bv\d+\.[48]h|\bh\d+\b/.test(operands)),
    },
  ],
};

/** @param {string} file @returns {Code[]} every function, by address */
export function functionsOf(file) {
  let source = '';
  /** @type {Code[]} */
  const functions = [];
  for (const [, value, size, type, , , section, name = ''] of rowsOf(file, ['--symbols'])) {
    if (type === 'FILE') source = name;
    if (type !== 'FUNC' || section === 'UND') continue;
    const begin = Number.parseInt(value, 16);
    functions.push({ begin, end: begin + Number(size), name, source });
  }
  return functions.sort((a, b) => a.begin - b.begin);
}

/** @param {Code[]} functions sorted @param {number} address @returns {Code} */
function functionAt(functions, address) {
  let low = 0;
  let high = functions.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (functions[middle].begin <= address) low = middle + 1;
    else high = middle;
  }
  const code = functions[low - 1];
  return code && address < code.end ? code : { begin: address, end: address, name: 'no function', source: '' };
}

/** @param {string} arch @param {string} file @returns {string} */
function disassemble(arch, file) {
  const tools = arch === 'arm64' ? ['aarch64-linux-gnu-objdump', 'objdump'] : ['objdump', 'x86_64-linux-gnu-objdump'];
  for (const tool of tools) {
    const options = { encoding: /** @type {const} */ ('utf8'), maxBuffer: 1 << 30, env: english };
    const { status, stdout } = spawnSync(tool, ['--disassemble', '--no-show-raw-insn', file], options);
    if (status === 0) return stdout;
  }
  throw new Error(`none of ${tools.join(', ')} reads ${file}`);
}

/** @param {string} file @param {string} arch @param {Code[]} functions */
function scan(file, arch, functions) {
  const rules = RULES[arch];
  if (!rules) throw new Error(`no rules for the instructions of ${arch}`);
  /** @type {Map<string, { rule: Rule, code: Code, count: number }>} */
  const uses = new Map();
  let total = 0;
  for (const [, address, mnemonic, operands] of disassemble(arch, file).matchAll(/^ *([0-9a-f]+):\t(\S+) *(.*)$/gm)) {
    total++;
    const rule = rules.find(({ found }) => found(mnemonic, operands));
    if (!rule) continue;
    const code = functionAt(functions, Number.parseInt(address, 16));
    const key = `${rule.kind} ${code.begin}`;
    const use = uses.get(key) ?? { rule, code, count: 0 };
    use.count++;
    uses.set(key, use);
  }
  return { uses: [...uses.values()], total };
}

/**
 * @param {string} file
 * @param {string} arch
 * @param {Code[] | undefined} functions all of them, from the same build with symbols
 */
export function instructionReport(file, arch, functions) {
  if (!functions) return { lines: [], failures: ['stripped, and the unstripped addon of this build is missing'] };
  const { uses, total } = scan(file, arch, functions);
  const illegal = uses.filter(({ rule, code }) => !rule.allowed(code));
  const failures = illegal.map(
    ({ rule, code, count }) => `${rule.kind} in ${code.name}, ${count} times (${code.source || 'unknown file'})`,
  );
  const allowed = uses.filter((use) => !illegal.includes(use));
  const kinds = [...new Set(allowed.map(({ rule }) => rule.kind))].map((kind) => {
    const of = allowed.filter(({ rule }) => rule.kind === kind);
    const sources = [...new Set(of.map(({ code }) => code.source))].join(' ');
    return `${of.reduce((sum, { count }) => sum + count, 0)} of ${kind} in ${of.length} functions behind a check${sources && `: ${sources}`}`;
  });
  const most = 20;
  if (failures.length > most) failures.splice(most, failures.length, `and ${failures.length - most} more functions`);
  if (total < 1000) failures.push(`only ${total} instructions: the disassembly was not read`);
  return { lines: [`${total} in all`, ...kinds], failures };
}
