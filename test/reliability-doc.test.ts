// docs/reliability.md is what its results give, and says no more than they do.
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import type { FuzzRecord, SoakRecord } from '../cli/dev/records.js';
import { reliabilityDocument } from '../cli/dev/reliability.js';
import { problemWithReliability } from '../cli/dev/write-reliability.js';

test('the committed document is what the results give', () => {
  expect(problemWithReliability(fileURLToPath(new URL('..', import.meta.url)))).toBeUndefined();
});

const origin = {
  date: '2026-05-04T03:02:01.000Z',
  package: { name: 'rlvr-kernels', version: '1.2.3' },
  git: { commit: '0123456789abcdef', dirty: true },
  node: 'v24.1.0',
  machine: { cpu: 'x', cores: 2, memoryGiB: 8, lastLevelCacheMiB: 32, platform: 'linux x64' },
  seed: 1,
  seconds: 100,
};
const fuzz: FuzzRecord = {
  ...origin,
  measurement: 'rlvr-kernels fuzz',
  sanitizers: true,
  calls: { api: { result: 1200, refused: 345 }, addon: { refused: 7 } },
  faults: [{ subject: 'addon', target: '', fault: 'the process ended', count: 3 }],
};
const memory = {
  before: { heapUsed: 5e6, external: 4e6, rss: 9e7 },
  after: { heapUsed: 5e6, external: 9e6, rss: 9e7 },
};
const soak: SoakRecord = {
  ...origin,
  measurement: 'rlvr-kernels soak',
  done: 70_000,
  aborted: 30_000,
  faults: [],
  workers: 200,
  callsInWorkers: 9,
  memory: { ...memory, grown: ['external'] },
};

test('the document has a row for each subject and each long run, with its faults', () => {
  const text = reliabilityDocument([fuzz, soak], ['a.json', 'b.json']);
  const rows = text.split('\n').filter((line) => line.startsWith('| 2026'));
  expect(rows).toEqual([
    '| 2026-05-04 | 0123456789ab, changed | 24.1.0 | linux x64 | ASan, UBSan | public functions | 1,545 | 1,200 | 345 | 0 |',
    "| 2026-05-04 | 0123456789ab, changed | 24.1.0 | linux x64 | ASan, UBSan | the addon's own | 7 | 0 | 7 | 1 |",
    '| 2026-05-04 | 0123456789ab, changed | 24.1.0 | linux x64 | 100,000 | 30,000 | 200 | 5.0 MB → 5.0 MB | 4.0 MB → 9.0 MB | 90.0 MB → 90.0 MB | 1 |',
  ]);
  expect(text.split('\n', 1)[0]).toContain('from a.json, b.json by');
});
