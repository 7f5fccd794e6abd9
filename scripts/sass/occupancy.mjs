// How many blocks of a kernel an SM holds at once: the rules of cuda_occupancy.h (CUDA 13.0), with the sizes that a driver
// would report from the tables of the CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".

/** @typedef {{ warps: number, blocks: number, shared: number }} Multiprocessor its most warps and blocks, bytes of shared memory */
/** @typedef {{ threads: number, registers: number, shared: number }} BlockNeeds registers per thread, bytes of shared memory */

export const WARP = 32;
const REGISTERS = 65_536;
const PARTITIONS = 4; // each with a quarter of the registers, and a scheduler
const REGISTER_UNIT = 256; // of a warp
const SHARED_UNIT = 128;
const SHARED_RESERVED = 1024; // of each block, by the driver

/** @type {Readonly<Record<number, Multiprocessor>>} */
const MULTIPROCESSORS = {
  80: { warps: 64, blocks: 32, shared: 164 * 1024 },
  90: { warps: 64, blocks: 32, shared: 228 * 1024 },
  100: { warps: 64, blocks: 32, shared: 228 * 1024 },
  120: { warps: 48, blocks: 24, shared: 100 * 1024 },
};

/** @param {number} value @param {number} unit */
const roundUp = (value, unit) => Math.ceil(value / unit) * unit;

/** @param {number} architecture 80 for sm_80 @param {BlockNeeds} needs */
export function residentBlocks(architecture, { threads, registers, shared }) {
  const limits = MULTIPROCESSORS[architecture];
  const warps = Math.ceil(threads / WARP);
  const ofWarp = roundUp(registers * WARP, REGISTER_UNIT);
  const byRegisters = Math.floor((Math.floor(REGISTERS / PARTITIONS / ofWarp) * PARTITIONS) / warps);
  const byShared = Math.floor(limits.shared / roundUp(shared + SHARED_RESERVED, SHARED_UNIT));
  return Math.min(limits.blocks, Math.floor(limits.warps / warps), byRegisters, byShared);
}
