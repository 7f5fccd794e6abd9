// A kernel's instructions as C++ statements: operands of any kind, and the instructions that the table of
// instructions.mjs cannot hold, which move data or control.

import { patternOf, ROWS } from './instructions.mjs';
import { PtxError } from './lex.mjs';

/** @typedef {import('./parse.mjs').Operand} Operand */
/** @typedef {import('./parse.mjs').Instruction} Instruction */
/** @typedef {import('./parse.mjs').Kernel} Kernel */
/** @typedef {import('./parse.mjs').Register} Register */
/** @typedef {import('./parse.mjs').Variable} Variable */
/** @typedef {import('./instructions.mjs').Row} Row */
/** @typedef {Record<string, string | undefined>} Groups */
/** @typedef {{ row: Row, groups: Groups }} Match */
/** @typedef {(kernel: KernelWriter, instruction: Instruction, groups: Groups) => string} Write */

/** @type {Readonly<Record<string, string>>} */
const SPECIAL_TYPES = {
  f32: 'float',
  f64: 'double',
  f16: '__half',
  bf16: '__nv_bfloat16',
  f16x2: '__half2',
  bf16x2: '__nv_bfloat162',
  pred: 'bool',
};

/** @param {string} type a PTX type */
export function cppType(type) {
  return SPECIAL_TYPES[type] ?? `${type.startsWith('s') ? 'int' : 'uint'}${type.slice(1)}_t`;
}

/** @param {string} type @returns {number} */
function bitsOf(type) {
  if (type === 'pred') return 1;
  const [, number, pair] = /(\d+)(x2)?$/.exec(type) ?? [];
  return Number(number) * (pair ? 2 : 1);
}
/** @param {string} type */
const bytesOf = (type) => bitsOf(type) / 8;

/** Of types that have numbers of their own: 0f3F800000. @param {string} type */
const isFloat = (type) => type === 'f32' || type === 'f64';
/** @param {string} type */
const isInteger = (type) => /^[bsu]\d+$/.test(type);

/** @type {ReadonlyMap<string, string>} */
const SPECIAL_REGISTERS = new Map([
  ...['x', 'y', 'z'].flatMap((axis) => [
    /** @type {const} */ ([`%tid.${axis}`, `threadIdx.${axis}`]),
    /** @type {const} */ ([`%ntid.${axis}`, `blockDim.${axis}`]),
    /** @type {const} */ ([`%ctaid.${axis}`, `blockIdx.${axis}`]),
    /** @type {const} */ ([`%nctaid.${axis}`, `gridDim.${axis}`]),
  ]),
  ['%laneid', 'lane_index()'],
  ['%lanemask_eq', '(1u << lane_index())'],
  ['%lanemask_lt', '((1u << lane_index()) - 1)'],
  ['%lanemask_le', '((2u << lane_index()) - 1)'],
  ['%lanemask_gt', '~((2u << lane_index()) - 1)'],
  ['%lanemask_ge', '~((1u << lane_index()) - 1)'],
]);

/** @param {bigint} value @param {number} bits */
function literal(value, bits) {
  const digits = `0x${BigInt.asUintN(bits, value).toString(16)}`;
  if (bits < 32) return `uint${bits}_t{${digits}}`;
  return bits === 64 ? `${digits}ull` : `${digits}u`;
}

/** @param {string} label */
export const labelName = (label) => label.replace(/[%$]/g, '_');

/** @param {string} spec @param {Groups} groups @returns {string} a PTX type */
function typeOf(spec, groups) {
  const [name, change] = spec.split(':').reverse();
  const type = groups[name] ?? name;
  if (change === 'wide') return `${type[0]}${bitsOf(type) * 2}`;
  return change === 'bits' ? `b${bitsOf(type)}` : type;
}

export class KernelWriter {
  /** @param {Kernel} kernel @param {string} file @param {ReadonlyMap<string, number>} shared offsets */
  constructor(kernel, file, shared) {
    this.kernel = kernel;
    this.file = file;
    this.shared = shared;
    this.parameters = new Map(kernel.parameters.map((parameter, i) => [parameter.name, { ...parameter, i }]));
    this.locals = new Set(kernel.locals.map(({ name }) => name));
    /** Lists of labels that an indexed branch chooses from. @type {Map<string, string[]>} */
    this.targets = new Map();
    /** @type {Set<string>} */
    this.usedLabels = new Set();
  }

  /** @param {string} message @param {{ line: number }} place @returns {never} */
  fail(message, { line }) {
    throw new PtxError(message, { file: this.file, line });
  }

  /** @param {Instruction} instruction @returns {string} */
  statement(instruction) {
    const { guard } = instruction;
    const code = this.#unguarded(instruction);
    return guard ? `if (${guard.not ? '!' : ''}${guard.register.name}) ${code}` : code;
  }

  /** @param {Instruction} instruction @returns {string} */
  #unguarded(instruction) {
    const { opcode } = instruction;
    for (const { pattern, write } of STATEMENTS) {
      const match = pattern.exec(opcode);
      if (match) return write(this, instruction, match.groups ?? {});
    }
    const known = rowsOf(opcode);
    if (known.length === 0) this.fail(`unknown instruction ${opcode}`, instruction);
    for (const match of known) {
      const code = this.#fromRow(instruction, match);
      if (code !== undefined) return code;
    }
    return this.fail(`operands of ${opcode} that it does not take`, instruction);
  }

  /** @param {Instruction} instruction @param {Match} match @returns {string | undefined} undefined: other operands */
  #fromRow(instruction, { row, groups }) {
    const { operands } = instruction;
    const specs = row.operands.filter(Boolean);
    const takes =
      specs.length === operands.length &&
      specs.every((spec, i) => {
        return spec.includes('|') === (operands[i].kind === 'pair');
      });
    if (!takes) return undefined;
    const written = specs[0]?.startsWith('=') ? 1 : 0;
    const read = specs.slice(written).map((spec, i) => this.#source(operands[written + i], spec, instruction, groups));
    let code = row.code.replace(/\$([abcdfgT])/g, (_, name) => {
      if (name === 'T') return cppType(groups.t ?? '');
      return groups[name] ?? read['abcd'.indexOf(name)];
    });
    if (written === 0) return `{ ${code && `${code};`} }`;
    const types = specs[0]
      .slice(1)
      .split('|')
      .map((spec) => typeOf(spec, groups));
    if (groups.ftz && types[0] !== 'pred') code = `ftz(${code})`;
    return this.#assign(operands[0], types, code, instruction);
  }

  /** @param {Operand} operand @param {string} spec @param {Instruction} place @param {Groups} groups */
  #source(operand, spec, place, groups) {
    if (spec === 'barrier') return this.#barrier(operand, place);
    const type = typeOf(spec, groups);
    const value = this.read(operand, type, place);
    return groups.ftz && isFloat(type) ? `ftz(${value})` : value;
  }

  /** @param {Operand} operand @param {Instruction} place */
  #barrier(operand, place) {
    if (operand.kind !== 'number' || operand.bits !== 0n) this.fail('a barrier other than 0', place);
    return '';
  }

  /** @param {Operand} to @param {string[]} types @param {string} code @param {Instruction} place @returns {string} */
  #assign(to, types, code, place) {
    if (to.kind !== 'pair') return `${this.write(to, types[0], code, place)};`;
    const [first, second] = to.items;
    const statements = [
      this.write(first, types[0], 'both.first', place),
      this.write(second, types[1], 'both.second', place),
    ];
    return `{ const auto both = ${code}; ${statements.join('; ')}; }`;
  }

  /**
   * An operand's value, as a C++ expression of the type.
   *
   * @param {Operand} operand @param {string} type @param {Instruction} place @returns {string}
   */
  read(operand, type, place) {
    const cpp = cppType(type);
    if (operand.kind === 'register') return this.#register(operand.register, type, place);
    if (operand.kind === 'not') return `!${this.read(operand.of, type, place)}`;
    if (operand.kind === 'number') return this.#number(operand, type, place);
    if (operand.kind === 'name') return `static_cast<${cpp}>(${this.#named(operand.name, place)})`;
    return this.fail(`a ${operand.kind} is no value`, place);
  }

  /** @param {Register} register @param {string} type @param {Instruction} place */
  #register({ name, bits }, type, place) {
    this.#fits(bits, type, place);
    if (!isInteger(type)) return type === 'pred' ? name : `__builtin_bit_cast(${cppType(type)}, ${name})`;
    return cppType(type) === `uint${bits}_t` ? name : `static_cast<${cppType(type)}>(${name})`;
  }

  /**
   * Integers may be the low bits of a register, all else must be as wide.
   *
   * @param {number} bits @param {string} type @param {Instruction} place
   */
  #fits(bits, type, place) {
    const asked = bitsOf(type);
    const fits = isInteger(type) && bits > 1 ? bits >= asked : bits === asked;
    if (!fits) this.fail(`a register of ${bits} bits as ${type}`, place);
  }

  /** @param {{ bits: bigint, size: number }} number @param {string} type @param {Instruction} place */
  #number({ bits, size }, type, place) {
    if (size !== (isFloat(type) ? bitsOf(type) : 0) && type !== `b${size}`)
      this.fail(`a number of another type than ${type}`, place);
    if (isInteger(type)) return `static_cast<${cppType(type)}>(${literal(bits, bitsOf(type))})`;
    return type === 'pred' ? `${bits !== 0n}` : `__builtin_bit_cast(${cppType(type)}, ${literal(bits, bitsOf(type))})`;
  }

  /** @param {string} name @param {Instruction} place */
  #named(name, place) {
    const special = SPECIAL_REGISTERS.get(name);
    if (special) return special;
    const offset = this.shared.get(name);
    if (offset !== undefined) return `(kWindow + ${offset})`;
    const parameter = this.parameters.get(name);
    if (parameter) return `address_of(parameters[${parameter.i}])`;
    if (this.locals.has(name)) return `address_of(${labelName(name)})`;
    return this.fail(`what is ${name}?`, place);
  }

  /** @param {Operand} to @param {string} type @param {string} code @param {Instruction} place @returns {string} */
  write(to, type, code, place) {
    if (to.kind === 'sink') return `static_cast<void>(${code})`;
    if (to.kind !== 'register') return this.fail(`a ${to.kind} cannot be written`, place);
    const { name, bits } = to.register;
    this.#fits(bits, type, place);
    const cpp = cppType(type);
    if (type === 'pred') return `${name} = ${code}`;
    if (!isInteger(type)) return `${name} = __builtin_bit_cast(uint${bits}_t, static_cast<${cpp}>(${code}))`;
    return `${name} = static_cast<${cpp}>(${code})`; // extended, by the sign if the type has one
  }

  /**
   * A pointer to the memory of an access.
   *
   * @param {Operand} operand @param {string | undefined} space @param {number} bytes @param {Instruction} place
   */
  pointer(operand, space, bytes, place) {
    if (operand.kind !== 'address') return this.fail('expected an address', place);
    const { base, offset } = operand;
    if (space === 'param' && base.kind === 'name') return this.#parameter(base.name, Number(offset), bytes, place);
    const wide = base.kind === 'register' ? `b${base.register.bits}` : 'b64';
    const address =
      this.read(base, wide, place) + (offset === 0n ? '' : ` + ${literal(offset, wide === 'b32' ? 32 : 64)}`);
    return space?.startsWith('shared') ? `kShared.at(${address}, ${bytes})` : `memory(${address}, ${bytes})`;
  }

  /** @param {string} name @param {number} offset @param {number} bytes @param {Instruction} place */
  #parameter(name, offset, bytes, place) {
    const parameter = this.parameters.get(name);
    if (!parameter) return this.fail(`${name} is no parameter`, place);
    if (offset < 0 || offset + bytes > parameter.bytes || offset % bytes !== 0)
      this.fail(`${name} has no ${bytes} bytes at ${offset}`, place);
    return `parameters[${parameter.i}] + ${offset}`;
  }

  /** @param {Operand | undefined} operand @param {Instruction} place */
  label(operand, place) {
    if (operand?.kind !== 'name') return this.fail('expected a label', place);
    const name = labelName(operand.name);
    this.usedLabels.add(name);
    return name;
  }
}

/** @type {Map<string, Match[]>} */
const matches = new Map();

/** @param {string} opcode with its modifiers */
function rowsOf(opcode) {
  let known = matches.get(opcode);
  if (!known) {
    known = ROWS.flatMap((row) => {
      const match = row.pattern.exec(opcode);
      return match ? [{ row, groups: match.groups ?? {} }] : [];
    });
    matches.set(opcode, known);
  }
  return known;
}

const SPACES = 'global|shared|shared::cta|local|param|const';
const ACCESS =
  '[.weak][.volatile][.<order:order>][.<scope:scope>][.<space:SPACES>][.nc][.<cache:ca|cg|cs|lu|cv|wb|wt>]' +
  '[.<l1:L1::evict_normal|L1::evict_unchanged|L1::evict_first|L1::evict_last|L1::no_allocate>]' +
  '[.<prefetch:L2::64B|L2::128B|L2::256B>][.v<count:2|4|8>].<t:b8|u8|s8|b16|u16|s16|b32|u32|s32|b64|u64|s64|f32|f64>';
const ATOMIC = '[.<order:order>][.<scope:scope>][.<space:SPACES>].';

/** The items of a vector, or the operand itself. @param {Operand} operand */
const itemsOf = (operand) => (operand.kind === 'vector' ? operand.items : [operand]);

/** @type {Write} */
function writeLoad(kernel, instruction, { space, count = '1', t = '' }) {
  const [to, from] = instruction.operands;
  const items = itemsOf(to);
  if (items.length !== Number(count)) kernel.fail(`expected ${count} registers`, instruction);
  const bytes = bytesOf(t);
  const pointer = kernel.pointer(from, space, bytes * items.length, instruction);
  const loads = items.map((item, i) =>
    kernel.write(item, t, `*reinterpret_cast<const ${cppType(t)}*>(from + ${i * bytes})`, instruction),
  );
  return `{ const unsigned char* const from = ${pointer}; ${loads.join('; ')}; }`;
}

/** @type {Write} */
function writeStore(kernel, instruction, { space, count = '1', t = '' }) {
  const [to, from] = instruction.operands;
  const items = itemsOf(from);
  if (items.length !== Number(count)) kernel.fail(`expected ${count} registers`, instruction);
  const bytes = bytesOf(t);
  const pointer = kernel.pointer(to, space, bytes * items.length, instruction);
  const stores = items.map(
    (item, i) => `*reinterpret_cast<${cppType(t)}*>(to + ${i * bytes}) = ${kernel.read(item, t, instruction)}`,
  );
  return `{ unsigned char* const to = ${pointer}; ${stores.join('; ')}; }`;
}

/** New values by the old one and the operands. @type {Readonly<Record<string, string>>} */
const UPDATES = {
  add: 'add(old, b)',
  min: 'min(old, b)',
  max: 'max(old, b)',
  and: 'old & b',
  or: 'old | b',
  xor: 'old ^ b',
  exch: 'b',
  cas: 'old == b ? c : old',
  inc: 'old >= b ? 0 : old + 1',
  dec: 'old == 0 || old > b ? b : old - 1',
};

/** @param {boolean} hasResult @returns {Write} */
function atomic(hasResult) {
  return (kernel, instruction, { space, op = '', t = '' }) => {
    const [address, b, c] = instruction.operands.slice(hasResult ? 1 : 0);
    const type = cppType(t);
    const values = [b, c].flatMap((one, i) => {
      return one ? [`const ${type} ${'bc'[i]} = ${kernel.read(one, t, instruction)};`] : [];
    });
    if (values.length !== (op === 'cas' ? 2 : 1)) kernel.fail('another number of operands', instruction);
    const next = `[&](${type} old) -> ${type} { return ${UPDATES[op]}; }`;
    const call = `exchange<${type}>(${kernel.pointer(address, space, bytesOf(t), instruction)}, ${next})`;
    const result = hasResult ? kernel.write(instruction.operands[0], t, call, instruction) : call;
    return `{ ${values.join(' ')} ${result}; }`;
  };
}

/** @type {Write} */
function writeMove(kernel, instruction, { t = '' }) {
  const [to, from] = instruction.operands;
  const bits = Number(t.slice(1));
  const part = `b${bits / Math.max(itemsOf(to).length, itemsOf(from).length)}`;
  const width = Number(part.slice(1));
  if (from.kind === 'vector') {
    const parts = from.items.map((item, i) => {
      return `static_cast<${cppType(t)}>(${kernel.read(item, part, instruction)}) << ${i * width}`;
    });
    return `${kernel.write(to, t, parts.join(' | '), instruction)};`;
  }
  if (to.kind !== 'vector') return `${kernel.write(to, t, kernel.read(from, t, instruction), instruction)};`;
  const writes = to.items.map((item, i) => {
    return kernel.write(item, part, `static_cast<${cppType(part)}>(whole >> ${i * width})`, instruction);
  });
  return `{ const ${cppType(t)} whole = ${kernel.read(from, t, instruction)}; ${writes.join('; ')}; }`;
}

/** @type {Write} */
function writeAddress(kernel, instruction, { to, space, t = '' }) {
  const [result, from] = instruction.operands;
  const address = kernel.read(from, t, instruction);
  const convert = to ? 'from_generic' : 'to_generic';
  const code = space?.startsWith('shared') ? `kShared.${convert}(${address})` : address;
  return `${kernel.write(result, t, code, instruction)};`;
}

/** @type {Write} */
function writeIndexedBranch(kernel, instruction) {
  const [index, list] = instruction.operands;
  const labels = list?.kind === 'name' ? kernel.targets.get(list.name) : undefined;
  if (!labels) return kernel.fail('a branch without its targets', instruction);
  const cases = labels.map((name, i) => `case ${i}: goto ${kernel.label({ kind: 'name', name }, instruction)};`);
  return `switch (${kernel.read(index, 'u32', instruction)}) { ${cases.join(' ')} }`;
}

/** @param {string} pattern @param {Write} write */
const statement = (pattern, write) => ({ pattern: patternOf(pattern.replaceAll('SPACES', SPACES)), write });

/** Instructions that need more than a row of the table. */
const STATEMENTS = [
  statement(`ld${ACCESS}`, writeLoad),
  statement(`st${ACCESS}`, writeStore),
  statement(`atom${ATOMIC}<op:exch|and|or|xor>.<t:b32|b64>`, atomic(true)),
  statement(`atom${ATOMIC}<op:cas>.<t:b16|b32|b64>`, atomic(true)),
  statement(`atom${ATOMIC}<op:min|max|add>.<t:s32|u32|s64|u64>`, atomic(true)),
  statement(`atom${ATOMIC}<op:inc|dec>.<t:u32>`, atomic(true)),
  statement(`atom${ATOMIC}<op:add>.<t:f32|f64>`, atomic(true)),
  statement(`red${ATOMIC}<op:and|or|xor>.<t:b32|b64>`, atomic(false)),
  statement(`red${ATOMIC}<op:min|max|add>.<t:s32|u32|s64|u64>`, atomic(false)),
  statement(`red${ATOMIC}<op:inc|dec>.<t:u32>`, atomic(false)),
  statement(`red${ATOMIC}<op:add>.<t:f32|f64>`, atomic(false)),
  statement('mov.<t:pred|bits|narrow|u64|s64|float>', writeMove),
  statement('cvta[.<to:to>].<space:global|shared|shared::cta|local|param|const>.<t:u64>', writeAddress),
  statement('bra[.uni]', (kernel, instruction) => `goto ${kernel.label(instruction.operands[0], instruction)};`),
  statement('brx.idx[.uni]', writeIndexedBranch),
  statement('ret[.uni]', () => 'return;'),
  statement('exit', () => 'return;'),
];
