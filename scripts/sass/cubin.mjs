// Reads a cubin, the ELF file of machine code that nvcc makes for one architecture, without NVIDIA's cuobjdump.

/**
 * @typedef {{ low: bigint, high: bigint }} Words the two halves of an instruction of 16 bytes
 * @typedef {{ name: string, threads: number, code: Words[] }} Kernel `threads`: of its launch bounds, 0 without
 */

const HEADER = { tableOffset: 0x28, entrySize: 0x3a, entries: 0x3c, namesIndex: 0x3e };
const TEXT = '.text.';
/** In `.nv.info.<kernel>`, records of a form, an attribute, and a value or the number of bytes that follow. */
const SIZED = 4;
const MAX_THREADS = 0x05;

/** @param {Buffer} file @returns {Map<string, Buffer>} */
function sections(file) {
  if (file.toString('latin1', 0, 4) !== '\x7fELF') throw new Error('not a cubin: no ELF header');
  const table = Number(file.readBigUInt64LE(HEADER.tableOffset));
  const size = file.readUInt16LE(HEADER.entrySize);
  const all = Array.from({ length: file.readUInt16LE(HEADER.entries) }, (_, i) => {
    const at = table + i * size;
    const offset = Number(file.readBigUInt64LE(at + 24));
    const bytes = Number(file.readBigUInt64LE(at + 32));
    return { name: file.readUInt32LE(at), data: file.subarray(offset, offset + bytes) };
  });
  const names = all[file.readUInt16LE(HEADER.namesIndex)].data;
  return new Map(all.map(({ name, data }) => [names.toString('latin1', name, names.indexOf(0, name)), data]));
}

/** @param {Buffer | undefined} info */
function maxThreads(info) {
  for (let at = 0; info && at + 4 <= info.length; ) {
    const [form, attribute] = [info[at], info[at + 1]];
    if (form === SIZED && attribute === MAX_THREADS)
      return info.readUInt32LE(at + 4) * info.readUInt32LE(at + 8) * info.readUInt32LE(at + 12);
    at += 4 + (form === SIZED ? info.readUInt16LE(at + 2) : 0);
  }
  return 0;
}

/** @param {Buffer} file @returns {Kernel[]} by their mangled names */
export function readCubin(file) {
  const all = sections(file);
  return [...all]
    .filter(([section]) => section.startsWith(TEXT))
    .map(([section, text]) => {
      const name = section.slice(TEXT.length);
      const code = Array.from({ length: text.length / 16 }, (_, i) => ({
        low: text.readBigUInt64LE(i * 16),
        high: text.readBigUInt64LE(i * 16 + 8),
      }));
      return { name, threads: maxThreads(all.get(`.nv.info.${name}`)), code };
    });
}
