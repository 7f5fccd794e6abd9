// One stem per op in every layer: an op that a layer lacks, or a file without an op, fails here.
import { readdirSync } from 'node:fs';
import { describe, expect, test } from 'vitest';

const root = new URL('..', import.meta.url);
const OPS = [
  'token-log-probs',
  'linear-log-probs',
  'sequence-log-probs',
  'ratio-scores',
  'group-info-nce',
  'advantage-objective',
  'sample-tokens',
];

const LAYERS = [
  ['native/ops', '.h', ['common', 'one-pass', 'ratio-rules']],
  [
    'native/binding',
    '.cpp',
    [
      'addon',
      'cuda-device',
      'cuda-memory',
      'cuda-session',
      'diagnostics',
      'emulation-controls',
      'memory',
      'mpi',
      'nccl',
      'settled-elsewhere',
    ],
  ],
  ['native/wasm', '.cpp', ['runtime']],
  ['lib/ops', '.ts', []],
] as const;

/** File names of a folder with an extension, as stems with dashes. */
function stems(folder: string, extension: string): string[] {
  return readdirSync(new URL(folder, root))
    .filter((file) => file.endsWith(extension))
    .map((file) => file.slice(0, -extension.length).replaceAll('_', '-'));
}

describe('layout', () => {
  test.each(LAYERS)('%s holds every op and nothing else', (folder, extension, others) => {
    expect(stems(folder, extension).sort()).toEqual([...OPS, ...others].sort());
  });

  test.each([
    ['native/cpu', '.cpp'],
    ['native/cuda', '.cu'],
    ['lib/reference', '.ts'],
    ['test', '.test.ts'],
  ])('%s holds every op', (folder, extension) => {
    expect(stems(folder, extension)).toEqual(expect.arrayContaining(OPS));
  });
});
