// The result of `rlvr-kernels bench`, as `--json` writes it and as the table, the Markdown, the HTML page and
// docs/performance.md read it. Plain data: it goes through JSON unchanged.
import type { DType } from '../../lib/kernels.js';

/** Raised by one when a reader of older files would misread newer ones. */
export const reportFormat = 1;

/** What a row measures. Each section has a table of its own. */
export type Section =
  | 'memory'
  | 'token'
  | 'scores'
  | 'objectives'
  | 'losses'
  | 'linear'
  | 'groups'
  | 'calls'
  | 'threads'
  | 'sweep';

/** Order statistics of the timed calls. */
export interface Spread {
  readonly median: number;
  readonly p10: number;
  readonly p90: number;
  readonly min: number;
  readonly max: number;
}

/** What was worked on: only the sizes that apply. */
export interface Shape {
  readonly tokens: number;
  readonly vocab?: number;
  /** Of the hidden states. */
  readonly width?: number;
  readonly sequences?: number;
  /** Sequences per group. */
  readonly groupSize?: number;
}

/** One contender at one shape. */
export interface Row {
  readonly section: Section;
  /** 'forward', 'forward with entropy', 'backward in place', 'forward + backward', 'groupInfoNce', 'conspo', 'read', 'copy', … */
  readonly op: string;
  /** Whose code: 'rlvr-kernels', 'memory' for a yardstick, or a peer's name. */
  readonly by: string;
  /** Of this package; null for a peer. Of a yardstick: 'cuda' for a device's memory, null for the host's. */
  readonly backend: 'reference' | 'wasm' | 'cpu' | 'cuda' | null;
  /** Threads it may use; null where that is not known (a peer's own choice, a GPU). */
  readonly threads: number | null;
  readonly dtype: DType | 'f64';
  readonly shape: Shape;
  readonly milliseconds: Spread;
  /** Tokens per second: rows of the logits where there are logits. */
  readonly rowsPerSecond: number;
  /** The bytes that the task has to read and write at least. A peer that moves more is charged the same. */
  readonly bytes: number;
  /** `bytes` over the median time, in 1e9 bytes per second. */
  readonly gigabytesPerSecond: number;
  /**
   * The time that reading and copying the same bytes took in the same rounds, over this row's time: 1 is the memory
   * bandwidth. On a device, reading is taken as half of its copy. Null where the memory is not what to compare with (small
   * arrays, the sequence and group level).
   */
  readonly ofBandwidth: number | null;
  /** The operations that the task needs at least, where they and not the bytes are its limit. */
  readonly flops?: number;
  /** `flops` over the median time, relative to that of the yardstick in the same rounds: multiply-adds in registers. */
  readonly ofPeak?: number;
  /** The most memory that a call takes beside its inputs, results included, in bytes. */
  readonly peakBytes?: number;
  /** Against float64: norm of the difference over the norm of the exact values. Null for a yardstick. */
  readonly error: number | null;
}

/** What a reader asks for first: a ratio of times of the same rounds, or a row's share of the memory bandwidth. */
export interface Comparison {
  readonly section: Section;
  /** Such as 'forward f32, against onnxruntime-node'. */
  readonly claim: string;
  readonly shape: Shape;
  /** Of a ratio, the median of the rounds. */
  readonly value: number;
  readonly unit: 'times' | 'percent';
  /** Of a ratio: the 99.96 % interval of that median (sign test), whatever the distribution of the noise. */
  readonly interval?: readonly [low: number, high: number];
}

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly lastLevelCacheMiB: number;
  /** Such as 'linux x64'. */
  readonly platform: string;
}

/** Cores that other processes kept busy. */
export interface Load {
  readonly before: number;
  /** The most in any round that counts. */
  readonly during: number;
  readonly after: number;
}

export interface PeerEntry {
  readonly name: string;
  readonly version?: string;
  /** Why it was not run. */
  readonly reason?: string;
}

export interface BenchReport {
  readonly benchmark: 'rlvr-kernels bench';
  readonly format: typeof reportFormat;
  /** ISO 8601. */
  readonly date: string;
  readonly machine: Machine;
  readonly node: string;
  readonly package: { readonly name: string; readonly version: string };
  /** Nulls outside a checkout. `dirty`: lib, native or bench held changes that are not in the commit. */
  readonly git: { readonly commit: string | null; readonly dirty: boolean | null };
  /** The backends measured, with what `rlvr-kernels info` says of them (simd, threads, device, driver, …). */
  readonly backends: readonly { readonly name: string; readonly [detail: string]: unknown }[];
  readonly load: Load;
  readonly settings: {
    readonly command: string;
    readonly repeats: number;
    readonly warmup: number;
    readonly seed: number;
    /** Rounds in which other processes were at work were thrown away and repeated. */
    readonly quiet: boolean;
  };
  readonly peers: readonly PeerEntry[];
  readonly rows: readonly Row[];
  readonly comparisons: readonly Comparison[];
}

/** As JSON, with a row or comparison a line: there are over a thousand of all sections. */
export function reportJson(report: BenchReport): string {
  const lines = (items: readonly object[]) =>
    `[\n${items.map((item) => `    ${JSON.stringify(item)}`).join(',\n')}\n  ]`;
  const { rows, comparisons, ...facts } = report;
  const head = JSON.stringify(facts, null, 2).replace(/\n}$/, '');
  return `${head},\n  "rows": ${lines(rows)},\n  "comparisons": ${lines(comparisons)}\n}\n`;
}
