// A run on disk: weights and optimizer as one safetensors file, which Python reads too, with the settings in its metadata.
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import type { State } from './loop.js';
import type { Settings } from './settings.js';
import type { Weights } from './weights.js';

export interface Checkpoint {
  settings: Settings;
  /** Steps done of each phase. */
  warm: number;
  step: number;
  state: State;
}

interface Header {
  __metadata__: Record<'settings' | 'warm' | 'step' | 'updates', string>;
  [name: string]: unknown;
}

type Entry = { dtype: 'F32'; shape: number[]; data_offsets: [number, number] };

export function save(file: string, { settings, warm, step, state }: Checkpoint): void {
  const groups = { weights: state.weights, first: state.adam.first, second: state.adam.second };
  const header: Header = {
    __metadata__: {
      settings: JSON.stringify(settings),
      warm: `${warm}`,
      step: `${step}`,
      updates: `${state.adam.updates}`,
    },
  };
  const parts: Buffer[] = [];
  let end = 0;
  for (const [group, weights] of Object.entries(groups)) {
    for (const [name, { shape, values }] of Object.entries(weights)) {
      const start = end;
      end += values.byteLength;
      header[`${group}.${name}`] = { dtype: 'F32', shape, data_offsets: [start, end] } satisfies Entry;
      parts.push(Buffer.from(values.buffer, values.byteOffset, values.byteLength));
    }
  }
  const text = Buffer.from(JSON.stringify(header));
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(text.length));
  writeFileSync(`${file}.part`, Buffer.concat([size, text, ...parts]));
  renameSync(`${file}.part`, file); // a run that is killed leaves the one before, or this one, never half
}

export function load(file: string): Checkpoint {
  const bytes = readFileSync(file);
  const size = Number(bytes.readBigUInt64LE(0));
  const { __metadata__: metadata, ...entries }: Header = JSON.parse(bytes.toString('utf8', 8, 8 + size));
  const groups: Record<string, Weights> = { weights: {}, first: {}, second: {} };
  for (const [path, entry] of Object.entries(entries)) {
    const { shape, data_offsets } = entry as Entry;
    const [start, end] = data_offsets.map((offset) => 8 + size + offset) as [number, number];
    const [group, name] = path.split('.') as [string, string];
    groups[group]![name] = {
      shape,
      values: new Float32Array(bytes.buffer.slice(bytes.byteOffset + start, bytes.byteOffset + end) as ArrayBuffer),
    };
  }
  const { weights, first, second } = groups as Record<'weights' | 'first' | 'second', Weights>;
  return {
    settings: JSON.parse(metadata.settings),
    warm: Number(metadata.warm),
    step: Number(metadata.step),
    state: { weights, adam: { updates: Number(metadata.updates), first, second } },
  };
}
