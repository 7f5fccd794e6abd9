// The part of check-binary.mjs that reads which GPUs an addon has code for. nvcc puts it into one section, as containers
// ("fatbins") of entries, each for one architecture; the layout is the one that cuobjdump reads.

import { readFileSync } from 'node:fs';
import { readelf } from './check-binary-code.mjs';

const MAGIC = 0xba55ed50;
const KINDS = new Map([
  [1, 'PTX compute_'], // compiled by the driver, for future chips
  [2, 'sm_'],
]);

/** @param {string} file @returns {Buffer | undefined} */
function fatbinSection(file) {
  const row = /\s\.nv_fatbin\s+\w+\s+[0-9a-f]+\s+([0-9a-f]+)\s+([0-9a-f]+)/.exec(readelf(file, ['--section-headers']));
  if (!row) return undefined;
  const [offset, size] = row.slice(1).map((text) => Number.parseInt(text, 16));
  return readFileSync(file).subarray(offset, offset + size);
}

/** The entries of the container at an offset. @param {Buffer} section @param {number} at */
function container(section, at) {
  if (section.readUInt32LE(at) !== MAGIC) throw new Error(`no container of GPU code at ${at} of .nv_fatbin`);
  const end = at + section.readUInt16LE(at + 6) + Number(section.readBigUInt64LE(at + 8));
  const entries = [];
  for (let entry = at + section.readUInt16LE(at + 6); entry < end; ) {
    const kind = KINDS.get(section.readUInt16LE(entry)) ?? 'unknown for ';
    const bytes = section.readUInt32LE(entry + 4) + Number(section.readBigUInt64LE(entry + 8));
    entries.push({ name: `${kind}${section.readUInt32LE(entry + 28)}`, bytes });
    entry += bytes;
  }
  return { entries, end };
}

/** How many bytes there are for each GPU architecture. @param {string} file @returns {Record<string, number>} */
export function gpuReport(file) {
  const section = fatbinSection(file);
  /** @type {Record<string, number>} */
  const sizes = {};
  for (let at = 0; section && at + 16 <= section.length; ) {
    const { entries, end } = container(section, at);
    for (const { name, bytes } of entries) sizes[name] = (sizes[name] ?? 0) + bytes;
    at = (end + 7) & ~7;
  }
  return sizes;
}
