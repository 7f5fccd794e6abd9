// From a kernel's machine code to the figures that have a budget, and what exceeds it.

import { decode } from './instructions.mjs';
import { ARCHITECTURES, DTYPES, KERNELS } from './kernels.mjs';
import { blocksOf, hotLoop, loopCode } from './loops.mjs';
import { residentBlocks } from './occupancy.mjs';

/** @typedef {import('./compile.mjs').Compiled} Compiled */
/** @typedef {import('./instructions.mjs').Instruction} Instruction */
/** @typedef {import('./kernels.mjs').Dtype} Dtype */
/**
 * @typedef {object} LoopFigures of one iteration
 * @property {number} instructions all of its body, the rare parts too
 * @property {number} rare of these, in the rare parts
 * @property {number} rareParts
 * @property {number} elements one for each exponential
 * @property {number} divergence BSSY and BSYNC outside the rare parts
 * @property {number} float64 instructions outside the rare parts
 * @property {number} local accesses to local memory
 * @property {number} loadBytes what a thread reads of global memory
 */
/** @typedef {LoopFigures & import('../../bench/report/sass-result.js').SassRow} Row */

/** The BSSY and BSYNC that a rare part may have around it. */
const PAIR = 2;

/** @param {Instruction[]} code @param {RegExp} op */
const count = (code, op) => code.filter((one) => op.test(one.op)).length;

/**
 * @param {Instruction[]} code of a kernel @param {boolean} [stores] as hotLoop() takes it
 * @returns {LoopFigures | undefined} without a loop that has exponentials
 */
export function loopFigures(code, stores) {
  const blocks = blocksOf(code);
  const loop = hotLoop(blocks, stores);
  if (!loop) return undefined;
  const { every, rare, rareParts } = loopCode(blocks, loop);
  const all = [...every, ...rare];
  return {
    instructions: all.length,
    rare: rare.length,
    rareParts,
    elements: count(every, /^MUFU\.EX2$/),
    divergence: count(every, /^(BSSY|BSYNC)$/),
    float64: count(every, /^(D[A-Z]+|F2F)$/),
    local: count(all, /^(LDL|STL)$/),
    loadBytes: all.reduce((sum, { loadBytes = 0 }) => sum + loadBytes, 0),
  };
}

/**
 * Of a kernel that first reads a row in one loop, then writes it in another: both, over as many elements, and what the first reads.
 *
 * @param {Instruction[]} code @returns {LoopFigures | undefined}
 */
export function bothLoops(code) {
  const reading = loopFigures(code, false);
  const writing = loopFigures(code, true);
  if (!reading || !writing) return undefined;
  const elements = Math.max(reading.elements, writing.elements);
  const sum = (/** @type {keyof LoopFigures} */ figure) =>
    (reading[figure] * elements) / reading.elements + (writing[figure] * elements) / writing.elements;
  return {
    instructions: sum('instructions'),
    rare: sum('rare'),
    rareParts: sum('rareParts'),
    elements,
    divergence: sum('divergence'),
    float64: sum('float64'),
    local: sum('local'),
    loadBytes: (reading.loadBytes * elements) / reading.elements,
  };
}

/** The one kernel of a pass and element type. @param {Compiled[]} kernels @param {RegExp} name @param {Dtype} dtype */
function find(kernels, name, dtype) {
  const found = kernels.filter(({ demangled }) => name.test(demangled) && DTYPES[dtype].test(demangled));
  if (found.length !== 1) throw new Error(`${found.length} kernels match ${name} for ${dtype}, expected one`);
  return found[0];
}

/** @param {Compiled[]} kernels of a source @param {string} source @param {number} architecture @returns {Row[]} */
export function measure(kernels, source, architecture) {
  return KERNELS.filter((one) => one.source === source).flatMap(({ pass, name, loops, perElement }) =>
    /** @type {Dtype[]} */ (Object.keys(perElement)).map((dtype) => {
      const { code, threads, registers, shared, demangled } = find(kernels, name, dtype);
      const figures = (loops === 2 ? bothLoops : loopFigures)(code.map((words, i) => decode(words, i, architecture)));
      if (!figures) throw new Error(`no loop with exponentials in ${demangled}`);
      return {
        pass,
        dtype,
        architecture,
        registers,
        shared,
        threads,
        residentBlocks: residentBlocks(architecture, { threads, registers, shared }),
        ...figures,
        limit: perElement[dtype] * (ARCHITECTURES.get(architecture) ?? 1),
      };
    }),
  );
}

/** Instructions for each element. @param {LoopFigures} figures */
export const perElement = ({ instructions, elements }) => instructions / elements;

/** Bytes of loads of one iteration, of all threads that an SM holds. @param {Row} row */
export const bytesInFlight = ({ loadBytes, threads, residentBlocks }) => loadBytes * threads * residentBlocks;

/** What exceeds the budget, one line each. @param {Row} row @returns {string[]} */
export function excesses(row) {
  /** @type {[figure: string, value: number, limit: number][]} */
  const figures = [
    ['instructions per element', perElement(row), row.limit],
    ['BSSY and BSYNC outside the rare parts', row.divergence, PAIR * row.rareParts],
    ['float64 instructions outside the rare parts', row.float64, 0],
    ['accesses to local memory', row.local, 0],
  ];
  const where = `${row.pass} ${row.dtype}, sm_${row.architecture}`;
  return figures
    .filter(([, value, limit]) => !(value <= limit))
    .map(([figure, value, limit]) => `${where}: ${Number(value.toFixed(2))} ${figure}, at most ${limit}`);
}

/** The same of what no kernel may need. @param {Compiled} kernel @param {number} architecture @returns {string[]} */
export function spills({ demangled, stack, spills: bytes }, architecture) {
  const ok = stack === 0 && bytes === 0;
  return ok ? [] : [`${demangled}, sm_${architecture}: ${stack} bytes of stack and ${bytes} of spills, at most 0`];
}
