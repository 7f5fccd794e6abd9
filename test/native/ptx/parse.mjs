// PTX as a module of kernels: variables, parameters, registers and instructions. What it does not know is an error with
// its line. Registers are resolved here, since a block in braces may declare some with names that are used elsewhere.

import { PtxError, tokens } from './lex.mjs';

/** @typedef {import('./lex.mjs').Token} Token */
/** @typedef {{ name: string, bits: number }} Register 1 bit: a predicate */
/** @typedef {{ name: string, space: string, align: number, bytes: number, line: number }} Variable */
/**
 * @typedef {{ kind: 'register', register: Register }
 *   | { kind: 'number', bits: bigint, size: number }
 *   | { kind: 'name', name: string }
 *   | { kind: 'sink' }
 *   | { kind: 'not', of: Operand }
 *   | { kind: 'vector', items: Operand[] }
 *   | { kind: 'pair', items: [Operand, Operand] }
 *   | { kind: 'address', base: Operand, offset: bigint }} Operand `size` is 0 for an integer, which fits any type
 */
/** @typedef {{ register: Register, not: boolean }} Guard */
/** @typedef {{ opcode: string, guard?: Guard, operands: Operand[], line: number }} Instruction */
/** @typedef {{ label: string, line: number }} Label */
/** @typedef {{ label: string, targets: string[], line: number }} Targets of an indexed branch */
/**
 * @typedef {{ name: string, line: number, parameters: Variable[], maxThreads: number, registers: Register[],
 *   locals: Variable[], body: (Instruction | Label | Targets)[] }} Kernel maxThreads is 0 where none is given
 */
/** @typedef {{ file: string, shared: Variable[], kernels: Kernel[] }} Module */

const LINKAGE = ['.visible', '.weak'];
/** Directives of a kernel whose numbers tell ptxas how many registers to use. */
const RESOURCES = ['.minnctapersm', '.maxnreg'];
const WARP_SIZE = 32n;

/** @param {string} type `.b8` @returns {number} */
const bytesOf = (type) => Number(/^\.[bfsu](8|16|32|64)$/.exec(type)?.[1]) / 8;

/** Bits of a register type; NaN if it is none. @param {string} type */
const registerBits = (type) => (type === '.pred' ? 1 : bytesOf(type) * 8);

class Parser {
  /** @type {Module} */
  module;
  /** @type {Token[]} */
  #tokens;
  #at = 0;
  /** What the braces around this place declare, outermost first. @type {Map<string, Register>[]} */
  #scopes = [];
  /** How many declarations of registers came before, which keeps those of inner blocks apart. */
  #declarations = 0;

  /** @param {string} text @param {string} file */
  constructor(text, file) {
    this.module = { file, shared: [], kernels: [] };
    this.#tokens = tokens(text, file);
    while (this.#at < this.#tokens.length) this.#topLevel();
  }

  /** @param {string} message @param {number} [line] @returns {never} */
  #fail(message, line = (this.#tokens[this.#at] ?? this.#tokens.at(-1))?.line ?? 1) {
    throw new PtxError(message, { file: this.module.file, line });
  }
  get #line() {
    return this.#tokens[this.#at]?.line ?? 0;
  }
  get #text() {
    return this.#tokens[this.#at]?.text ?? '';
  }
  #next() {
    const token = this.#tokens[this.#at];
    if (token === undefined) this.#fail('the file ends too early');
    ++this.#at;
    return token.text;
  }
  /** @param {string} text */
  #accept(text) {
    if (this.#text !== text) return false;
    ++this.#at;
    return true;
  }
  /** @param {string} text */
  #expect(text) {
    if (!this.#accept(text)) this.#fail(`expected '${text}', got '${this.#text}'`);
  }
  /** Items until `end`, with commas between them. @template T @param {string} end @param {() => T} item */
  #list(end, item) {
    /** @type {T[]} */
    const items = [];
    if (this.#accept(end)) return items;
    do items.push(item());
    while (this.#accept(','));
    this.#expect(end);
    return items;
  }
  #integer() {
    const { bits, size } = this.#number();
    if (size !== 0) this.#fail('expected an integer');
    return Number(bits);
  }

  #topLevel() {
    while (LINKAGE.includes(this.#text)) ++this.#at;
    const line = this.#line;
    const directive = this.#next();
    if (directive === '.version' || directive === '.target' || directive === '.address_size') this.#next();
    else if (directive === '.shared') this.module.shared.push(this.#variable('shared', ';'));
    else if (directive === '.entry') this.module.kernels.push(this.#kernel(line));
    else this.#fail(`${directive} is not supported`, line);
  }

  /** After its space: `.align 8 .b8 name[16]`. @param {string} space @param {string} [end] @returns {Variable} */
  #variable(space, end) {
    const line = this.#line;
    const align = this.#accept('.align') ? this.#integer() : 0;
    const size = bytesOf(this.#next());
    if (Number.isNaN(size)) this.#fail('expected a type', line);
    if (this.#accept('.ptr')) this.#pointee();
    const name = this.#next();
    let count = 1;
    if (this.#accept('[')) {
      count = this.#integer();
      this.#expect(']');
    }
    if (end) this.#expect(end);
    return { name, space, align: align || size, bytes: size * count, line };
  }

  /** After the `.ptr` of a parameter: what it is said to point to. */
  #pointee() {
    this.#accept('.global');
    if (this.#accept('.align')) this.#integer();
  }

  /** @param {number} line @returns {Kernel} */
  #kernel(line) {
    const name = this.#next();
    const parameters = this.#accept('(')
      ? this.#list(')', () => {
          this.#expect('.param');
          return this.#variable('param');
        })
      : [];
    const maxThreads = this.#bounds();
    /** @type {Kernel} */
    const kernel = { name, line, parameters, maxThreads, registers: [], locals: [], body: [] };
    this.#block(kernel);
    return kernel;
  }

  /** @returns {number} the most threads of a block */
  #bounds() {
    let most = 0;
    for (;;) {
      if (this.#accept('.maxntid')) {
        most = this.#integer();
        while (this.#accept(',')) most *= this.#integer();
      } else if (RESOURCES.includes(this.#text)) {
        ++this.#at;
        this.#integer();
      } else return most;
    }
  }

  /** @param {Kernel} kernel */
  #block(kernel) {
    this.#expect('{');
    this.#scopes.push(new Map());
    while (!this.#accept('}')) this.#statement(kernel);
    this.#scopes.pop();
  }

  /** @param {Kernel} kernel */
  #statement(kernel) {
    const line = this.#line;
    if (this.#text === '{') return this.#block(kernel);
    if (this.#tokens[this.#at + 1]?.text === ':') return this.#label(kernel);
    if (this.#accept('.reg')) kernel.registers.push(...this.#registers());
    else if (this.#accept('.local')) kernel.locals.push(this.#variable('local', ';'));
    else if (this.#accept('.shared')) this.module.shared.push(this.#variable('shared', ';'));
    else if (this.#accept('.pragma')) {
      this.#next(); // advice to ptxas
      this.#expect(';');
    } else if (this.#text.startsWith('.')) this.#fail(`${this.#text} is not supported`, line);
    else kernel.body.push(this.#instruction());
  }

  /** @param {Kernel} kernel */
  #label(kernel) {
    const line = this.#line;
    const label = this.#next();
    this.#expect(':');
    if (this.#accept('.branchtargets')) kernel.body.push({ label, targets: this.#list(';', () => this.#next()), line });
    else kernel.body.push({ label, line });
  }

  /** After `.reg`: `.b32 %r<5>;` or `.b16 low, high;`. @returns {Register[]} */
  #registers() {
    const bits = registerBits(this.#text);
    if (Number.isNaN(bits)) this.#fail(`registers of type ${this.#text} are not supported`);
    this.#next();
    const scope = /** @type {Map<string, Register>} */ (this.#scopes.at(-1));
    const declaration = ++this.#declarations;
    /** @param {string} name @returns {Register} */
    const declare = (name) => {
      const register = { name: `${name.replace(/[%$]/g, '')}_${declaration}`, bits };
      scope.set(name, register);
      return register;
    };
    return this.#list(';', () => {
      const name = this.#next();
      if (!this.#accept('<')) return [declare(name)];
      const count = this.#integer();
      this.#expect('>');
      return Array.from({ length: count }, (_, i) => declare(`${name}${i}`));
    }).flat();
  }

  /** @returns {Instruction} */
  #instruction() {
    const line = this.#line;
    const guard = this.#accept('@') ? { not: this.#accept('!'), register: this.#predicate() } : undefined;
    const opcode = this.#next();
    if (this.#text === '(') this.#fail(`unknown instruction ${opcode}`, line); // a call
    return { opcode, guard, operands: this.#list(';', () => this.#operand()), line };
  }
  #predicate() {
    const name = this.#next();
    const register = this.#register(name);
    if (register?.bits !== 1) this.#fail(`${name} is no predicate`);
    return register;
  }
  /** @param {string} name */
  #register(name) {
    return this.#scopes.findLast((scope) => scope.has(name))?.get(name);
  }

  /** @returns {Operand} */
  #operand() {
    const first = this.#simple();
    return this.#accept('|') ? { kind: 'pair', items: [first, this.#simple()] } : first;
  }
  /** @returns {Operand} */
  #simple() {
    if (this.#accept('{')) return { kind: 'vector', items: this.#list('}', () => this.#simple()) };
    if (this.#accept('!')) return { kind: 'not', of: this.#simple() };
    if (this.#accept('[')) return this.#address();
    if (/^[-\d]/.test(this.#text)) return { kind: 'number', ...this.#number() };
    const name = this.#next();
    if (name === '_') return { kind: 'sink' };
    if (name === 'WARP_SZ') return { kind: 'number', bits: WARP_SIZE, size: 0 };
    const register = this.#register(name);
    return register ? { kind: 'register', register } : { kind: 'name', name };
  }
  /** @returns {Operand} */
  #address() {
    const base = this.#simple();
    const offset = this.#accept('+') || this.#text.startsWith('-') ? this.#number().bits : 0n;
    this.#expect(']');
    return { kind: 'address', base, offset };
  }
  #number() {
    const sign = this.#accept('-') ? -1n : 1n;
    const text = this.#next();
    if (/^0[fFdD]/.test(text)) return { bits: BigInt(`0x${text.slice(2)}`), size: text.length === 10 ? 32 : 64 };
    if (!/^\d/.test(text) || text.includes('.')) this.#fail(`expected a number, got '${text}'`);
    return { bits: sign * BigInt(text.replace(/U$/, '')), size: 0 };
  }
}

/** @param {string} text @param {string} file for messages @returns {Module} */
export function parse(text, file) {
  return new Parser(text, file).module;
}
