// What the budget needs to know of a machine instruction of sm_80 to sm_120. NVIDIA does not publish the encoding: these
// bits were told apart by compiling kernels of one statement each, as test/check-sass.test.ts does again.
//
// Of an instruction's 128 bits, 0 to 8 are the operation, 9 to 11 the form of its operands, and 12 to 15 the predicate
// that guards it, with its sign.

/** @typedef {import('./cubin.mjs').Words} Words */
/**
 * @typedef {object} Instruction
 * @property {string} op one of the names below, or the operation's number
 * @property {number} [target] of a branch: the index of an instruction
 * @property {boolean} falls whether the instruction behind it may be the next
 * @property {number} [loadBytes] what a thread reads of global memory
 */

/** @type {ReadonlyMap<number, string>} */
const NAMES = new Map([
  [0x028, 'DMUL'],
  [0x029, 'DADD'],
  [0x02a, 'DSETP'],
  [0x02b, 'DFMA'],
  [0x108, 'MUFU'],
  [0x110, 'F2F'], // on these architectures only from and to float64: F2FP and HADD2 convert the others
  [0x141, 'BSYNC'],
  [0x145, 'BSSY'],
  [0x147, 'BRA'],
  [0x149, 'BRX'],
  [0x14d, 'EXIT'],
  [0x150, 'RET'],
  [0x17e, 'LDG'], // of 256 bits
  [0x181, 'LDG'],
  [0x183, 'LDL'],
  [0x186, 'STG'],
  [0x187, 'STL'],
  [0x1ae, 'LDGSTS'],
]);
const WIDEST_LOAD = 0x17e;
/** By the field of three bits that gives an access's width. */
const WIDTHS = [1, 1, 2, 2, 4, 8, 16];
const EX2 = 2n; // of MUFU's functions
const ALWAYS = 7n; // the predicate that is always true

/** @param {bigint} word @param {number} first @param {number} count */
const bits = (word, first, count) => (word >> BigInt(first)) & ((1n << BigInt(count)) - 1n);

/** @param {Words} words @param {number} index @param {number} architecture 80 for sm_80 */
function branchTarget({ low, high }, index, architecture) {
  const near = BigInt.asIntN(48, (low >> 34n) | (high << 30n));
  // From sm_90 on, eight lower bits of the distance are beside the operation.
  const words = architecture >= 90 ? (near << 8n) | bits(low, 16, 8) : near;
  return index + 1 + Number(words) / 4; // of 32 bits, four to an instruction
}

/** @param {Words} words */
function branchesAlways({ low, high }) {
  // A BRA has a second predicate, and where that is of the whole warp, a flag in the bit above it.
  return bits(low, 12, 4) === ALWAYS && bits(high, 23, 5) === ALWAYS;
}

/** @param {Words} words @param {number} index @param {number} architecture 80 for sm_80 @returns {Instruction} */
export function decode(words, index, architecture) {
  const { low, high } = words;
  const operation = Number(bits(low, 0, 9));
  const name = NAMES.get(operation);
  switch (name) {
    case 'MUFU':
      return { op: bits(high, 10, 4) === EX2 ? 'MUFU.EX2' : name, falls: true };
    case 'BRA':
      return { op: name, target: branchTarget(words, index, architecture), falls: !branchesAlways(words) };
    case 'BRX': // to an address in a register
    case 'EXIT':
    case 'RET':
      return { op: name, falls: bits(low, 12, 4) !== ALWAYS };
    case 'LDG':
    case 'LDGSTS':
      return { op: name, falls: true, loadBytes: operation === WIDEST_LOAD ? 32 : WIDTHS[Number(bits(high, 9, 3))] };
    default:
      return { op: name ?? operation.toString(16), falls: true };
  }
}
