// A report of `rlvr-kernels bench` as a machine with two cores might give it, made without measuring anything.
import { Random } from '../../bench/problems/random.js';
import type { BenchReport, Comparison, Row, Shape } from '../../bench/report/report.js';

/** Names that would do harm wherever one of them is not escaped. */
export const hostile = {
  peer: '</script><script>globalThis.harmed = true</script>',
  attribute: '" onmouseover="globalThis.harmed = true" x="',
  reason: "<img src=x onerror='globalThis.harmed = true'> & <!-- \u202e gnp.exe",
} as const;

const [readSpeed, copySpeed] = [28.6, 32.8];
const bytesOf = { f64: 8, f32: 4, bf16: 2, f16: 2 } as const;
const shapes: readonly Shape[] = [
  { tokens: 512, vocab: 32000 },
  { tokens: 512, vocab: 50257 },
  { tokens: 256, vocab: 128256 },
  { tokens: 256, vocab: 151936 },
  { tokens: 128, vocab: 262144 },
];

/** What stays when only the time of a row is known; the spread is a few percent, seeded. */
function rowMaker() {
  const random = new Random(6);
  type Given = Pick<Row, 'section' | 'op' | 'shape'> & Partial<Row> & { passes?: number; median: number };
  return ({ median, passes = 1, ...given }: Given): Row => {
    const dtype = given.dtype ?? 'f32';
    const bytes = given.shape.tokens * (given.shape.vocab ?? 1) * bytesOf[dtype] * passes;
    const noise = () => 1 + 0.08 * random.uniform();
    const p10 = median / noise();
    const p90 = median * noise();
    return {
      by: 'rlvr-kernels',
      backend: 'cpu',
      threads: 2,
      dtype,
      milliseconds: { median, p10, p90, min: p10 / noise(), max: p90 * noise() },
      rowsPerSecond: (given.shape.tokens / median) * 1e3,
      bytes,
      gigabytesPerSecond: bytes / median / 1e6,
      ofBandwidth: null,
      error: 7.5e-10,
      ...given,
    };
  };
}

type MakeRow = ReturnType<typeof rowMaker>;

const sizeOf = ({ tokens, vocab = 1 }: Shape) => tokens * vocab;
/** Of reading or copying so many float32 values. */
const readTime = (values: number) => (values * 4) / readSpeed / 1e6;
const copyTime = (values: number) => (values * 8) / copySpeed / 1e6;

function memoryRows(row: MakeRow): Row[] {
  const yardstick = { by: 'memory', backend: null, error: null, section: 'memory', ofBandwidth: 1 } as const;
  return shapes.flatMap((shape) => [
    row({ ...yardstick, op: 'read', shape, median: readTime(sizeOf(shape)) }),
    row({ ...yardstick, op: 'copy', shape, passes: 2, median: copyTime(sizeOf(shape)) }),
  ]);
}

function tokenRows(row: MakeRow): Row[] {
  const ops = [
    { op: 'forward', passes: 1, share: { f32: 0.9, bf16: 0.48, f16: 0.81 } },
    { op: 'forward with entropy', passes: 1, share: { f32: 0.79, bf16: 0.42, f16: 0.6 } },
    { op: 'backward in place', passes: 2, share: { f32: 1.3, bf16: 0.9, f16: 0.95 } },
  ] as const;
  return shapes.flatMap((shape) =>
    ops.flatMap(({ op, passes, share }) => {
      const values = sizeOf(shape);
      const base = { section: 'token', op, passes, shape } as const;
      const yardstick = (width: number) => ((passes === 1 ? readTime(values) : copyTime(values)) * width) / 4;
      const cpu = (['f32', 'bf16', 'f16'] as const).map((dtype) =>
        row({ ...base, dtype, ofBandwidth: share[dtype], median: yardstick(bytesOf[dtype]) / share[dtype] }),
      );
      const reference = { ...base, backend: 'reference', threads: 1, error: 0, ofBandwidth: 0.01 } as const;
      return [...cpu, row({ ...reference, median: yardstick(4) / 0.01 })];
    }),
  );
}

function peerRows(row: MakeRow): Row[] {
  const peer = { section: 'token', op: 'forward', backend: null, error: 4.1e-7 } as const;
  return shapes.slice(0, 4).flatMap((shape) => {
    const time = readTime(sizeOf(shape));
    const given = (by: string, slower: number, threads: number | null) =>
      row({ ...peer, by, threads, shape, ofBandwidth: 1 / slower, median: time * slower });
    return [
      given('onnxruntime-node', 2.7, 2),
      given('PyTorch', 11, 2),
      given(hostile.peer, 19, null),
      given(hostile.attribute, 48, null),
      row({ ...peer, op: 'forward + backward', by: 'PyTorch', shape, passes: 3, median: time * 30 }),
      row({ section: 'token', op: 'forward + backward', shape, passes: 3, ofBandwidth: 1.1, median: time * 2.6 }),
    ];
  });
}

function smallRows(row: MakeRow): Row[] {
  const shape = { tokens: 1048576, sequences: 4096, groupSize: 16 };
  const objective = { tokens: 4096, sequences: 4096, groupSize: 16 };
  const sizes = Array.from({ length: 10 }, (_, i) => 2 ** (i + 1));
  return [
    row({ section: 'scores', op: 'mean log-prob, forward', dtype: 'f64', shape, median: 0.62 }),
    row({ section: 'scores', op: 'clipped ratio, forward', dtype: 'f64', shape, median: 3.1 }),
    row({ section: 'objectives', op: 'groupInfoNce', dtype: 'f64', shape: objective, median: 0.21 }),
    row({ section: 'objectives', op: 'advantageObjective', dtype: 'f64', shape: objective, median: 0.09 }),
    ...['conspo', 'grpo'].map((op, i) =>
      row({ section: 'losses', op, shape: shapes[0], passes: 3, ofBandwidth: 1.02, median: 5.4 + i }),
    ),
    ...sizes.map((groupSize) => {
      const ofSize = { tokens: 65536, sequences: 65536, groupSize };
      const median = 2.4 + 0.04 * Math.log2(groupSize);
      return row({ section: 'groups', op: 'groupInfoNce', dtype: 'f64', shape: ofSize, median });
    }),
  ];
}

/** Whose memory grows with the tokens, and whose does not. */
function linearRows(row: MakeRow): Row[] {
  return [128, 256, 512, 1024].flatMap((tokens) => {
    const shape = { tokens, vocab: 50257, width: 768 };
    const base = { section: 'linear', op: 'forward + backward', shape, ofPeak: 0.4, flops: 1e9 * tokens } as const;
    const layer = 4 * (tokens + shape.vocab) * shape.width;
    return [
      row({ ...base, median: 3 * tokens, peakBytes: layer + 2e7 }),
      row({ ...base, by: 'PyTorch', backend: null, median: 4 * tokens, peakBytes: layer + 12 * tokens * shape.vocab }),
    ];
  });
}

function threadRows(row: MakeRow): Row[] {
  return ['forward', 'backward in place'].flatMap((op, i) =>
    [1, 2].map((threads) => {
      const median = (3 + 4 * i) / [1, 1.88 - 0.2 * i][threads - 1];
      return row({ section: 'threads', op, threads, shape: shapes[0], passes: i + 1, median });
    }),
  );
}

function sweepRows(row: MakeRow): Row[] {
  const counts = [1, 16, 256, 4096];
  const vocabs = [1, 32, 1024, 32000, 262144];
  const all = counts.flatMap((tokens) => vocabs.map((vocab): Shape => ({ tokens, vocab })));
  return all
    .filter((shape) => sizeOf(shape) <= 2 ** 26)
    .flatMap((shape) => {
      const base = { section: 'sweep', op: 'forward', shape } as const;
      const median = 0.0025 + 1.2 * readTime(sizeOf(shape));
      const slow = 0.002 + 60 * readTime(sizeOf(shape));
      return [row({ ...base, median }), row({ ...base, backend: 'reference', threads: 1, median: slow })];
    });
}

function comparisons(rows: readonly Row[]): Comparison[] {
  const forward = rows.filter(({ section, op, dtype }) => section === 'token' && op === 'forward' && dtype === 'f32');
  const ours = (shape: Shape) => forward.find((row) => row.backend === 'cpu' && row.shape === shape)!;
  const against = forward
    .filter(({ backend }) => backend === null)
    .map(({ by, shape, rowsPerSecond }): Comparison => {
      const value = ours(shape).rowsPerSecond / rowsPerSecond;
      return { section: 'token', claim: `forward f32, against ${by}`, shape, value, unit: 'times' };
    });
  const share = shapes.map((shape): Comparison => {
    const value = 100 * ours(shape).ofBandwidth!;
    return { section: 'token', claim: 'forward f32, of the read bandwidth', shape, value, unit: 'percent' };
  });
  const sweep = rows.flatMap(({ section, op, dtype, shape, backend, milliseconds }): Comparison[] => {
    if (section !== 'sweep' || backend !== 'cpu') return [];
    const reference = rows.find(
      (row) => row.section === section && row.shape === shape && row.backend === 'reference',
    )!;
    const value = reference.milliseconds.median / milliseconds.median;
    const claim = `${op} ${dtype}, cpu against reference`;
    return [{ section, claim, shape, value, unit: 'times', interval: [0.9 * value, 1.2 * value] }];
  });
  return [
    ...against,
    ...share,
    ...sweep,
    { section: 'threads', claim: 'forward f32, two threads over one', shape: shapes[0], value: 1.88, unit: 'times' },
  ];
}

export function benchReport(): BenchReport {
  const row = rowMaker();
  const rows = [memoryRows, tokenRows, peerRows, linearRows, smallRows, threadRows, sweepRows].flatMap((make) =>
    make(row),
  );
  return {
    benchmark: 'rlvr-kernels bench',
    format: 1,
    date: '2026-11-23T06:04:40.460Z',
    machine: {
      cpu: 'AMD EPYC',
      cores: 2,
      memoryGiB: 23.5,
      lastLevelCacheMiB: 32,
      platform: 'linux x64',
    },
    node: 'v20.20.2',
    package: { name: 'rlvr-kernels', version: '0.1.0' },
    git: { commit: '1c868d1c7852933d3dbcb6ef1031732f02480865', dirty: true },
    backends: [
      { name: 'cpu', simd: 'avx2', threads: 2, addon: 'source build' },
      { name: 'reference', threads: 1 },
    ],
    load: { before: 0.01, during: 0.19, after: 0.76 },
    settings: {
      command: 'rlvr-kernels bench --quiet --html report.html',
      repeats: 21,
      warmup: 3,
      seed: 1,
      quiet: true,
    },
    peers: [
      { name: 'onnxruntime-node', version: '1.30.0' },
      { name: 'PyTorch', version: '2.13.0+cpu' },
      { name: hostile.peer, version: '1.0' },
      { name: hostile.attribute },
      { name: 'TensorFlow.js', reason: hostile.reason },
    ],
    rows,
    comparisons: comparisons(rows),
  };
}
