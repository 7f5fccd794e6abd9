// What a fuzzing process is asked to do and what it answers, as JSON.

/** A kind of input that the fuzzer knows. `P` describes one call, and is plain data. */
export interface Subject<P> {
  plans: import('fast-check').Arbitrary<P>;
  /** How the call ended, and what is wrong with that. */
  judge(plan: P): Promise<Verdict>;
  /** The call, for a person to read. */
  describe(plan: P): string;
}

export interface Verdict {
  end: 'result' | 'refused';
  fault?: string | undefined;
}

/** The backend that is compared with the reference. */
export const FUZZED_BACKEND = process.env.RLVR_FUZZED_BACKEND ?? 'cpu';

/** Calls of a chunk are made from one seed; the k-th has the path `k`. */
export const CHUNK = 200;

export type Job =
  /** Chunks `from` to `to`, the first of them from its call `start` on. */
  | { kind: 'run'; subject: string; seed: number; from: number; start: number; to: number; singly: boolean }
  | { kind: 'shrink'; subject: string; seed: number; path: string; fault: string; seconds: number }
  | { kind: 'replay'; subject: string; seed: number; path: string }
  | { kind: 'once'; subject: string; plan: string };

/** Of some calls. */
export interface Outcome {
  ends: Record<string, number>;
  faults: { fault: string; chunk: number; at: number; target: string }[];
}

export type Answer =
  /** About to make calls of a chunk, from the one at `at`. */
  | { at: number; chunk: number }
  | Outcome
  | { shrunk: { path: string; fault: string; call: string } | undefined }
  | { replayed: { fault: string | undefined; call: string } };

/** The seed of a chunk: a signed 32-bit number, as fast-check takes it. */
export function chunkSeed(seed: number, chunk: number): number {
  return (seed + chunk) | 0;
}

/** Faults with the same text, numbers aside, are taken for the same. */
export function signature(fault: string): string {
  return fault
    .replace(/-?\d[\d.e+-]*|NaN|-?Infinity/g, '#')
    .replace(/'[^']*'|"[^"]*"/g, '_')
    .slice(0, 120);
}
