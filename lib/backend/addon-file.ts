// Damage to the addon's file that is not left to the system's loader: it ends the process when a file is cut short, and
// calls one for another processor missing.
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';

/** Of the header of a 64-bit ELF file, little-endian: every Linux that Node has builds for. */
const HEADER = 64;
const MAGIC = '\x7fELF\x02\x01';
const PROCESSORS: Readonly<Record<number, string>> = { 62: 'x64', 183: 'arm64', 243: 'riscv64', 258: 'loong64' };

/** What is wrong with the file, if that can be told from its header. Throws where it cannot be read. */
export function damage(file: string): string | undefined {
  const { header, size } = readHeader(file);
  if (header.toString('latin1', 0, MAGIC.length) !== MAGIC) return undefined; // the loader says so
  const machine = header.readUInt16LE(18);
  const processor = PROCESSORS[machine] ?? `processor ${machine} in ELF's numbers`;
  if (processor !== process.arch && Object.values(PROCESSORS).includes(process.arch)) {
    return `${file} is for ${processor}, this is ${process.arch}`;
  }
  // The table of sections is the last thing in a linked file.
  const end = Number(header.readBigUInt64LE(40)) + header.readUInt16LE(58) * header.readUInt16LE(60);
  return size < end ? `${file} is cut short: ${size} bytes of ${end}` : undefined;
}

function readHeader(file: string): { header: Buffer; size: number } {
  const descriptor = openSync(file, 'r');
  try {
    const header = Buffer.alloc(HEADER); // a shorter file leaves zeros
    readSync(descriptor, header, 0, HEADER, 0);
    return { header, size: fstatSync(descriptor).size };
  } finally {
    closeSync(descriptor);
  }
}
