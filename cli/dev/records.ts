// What `npm run fuzz` and `npm run soak` write with `--json`.
import { describeCommit, describeMachine, describePackage } from '../../bench/machine.js';
import type { Machine } from '../../bench/report/report.js';

/** Bytes, after a garbage collection. */
export interface Reading {
  heapUsed: number;
  external: number;
  rss: number;
}

/** Where and when something was measured. */
export interface Origin {
  date: string;
  package: { name: string; version: string };
  git: { commit: string | null; dirty: boolean | null };
  node: string;
  machine: Machine;
  seed: number;
  seconds: number;
}

/** What `npm run fuzz -- --json FILE` writes. */
export interface FuzzRecord extends Origin {
  measurement: 'rlvr-kernels fuzz';
  /** Whether the addon was built with AddressSanitizer and UBSan. */
  sanitizers: boolean;
  /** Calls by subject and by how they ended. */
  calls: Record<string, { result?: number; refused?: number }>;
  faults: { subject: string; target: string; fault: string; count: number }[];
}

/** What `npm run soak -- --json FILE` writes. */
export interface SoakRecord extends Origin {
  measurement: 'rlvr-kernels soak';
  done: number;
  aborted: number;
  faults: string[];
  workers: number;
  callsInWorkers: number;
  memory: { before: Reading; after: Reading; grown: string[] };
}

export type ReliabilityRecord = FuzzRecord | SoakRecord;

/** Of this process, at this moment; `started` is of performance.now(). */
export function origin(seed: number, started: number): Origin {
  return {
    date: new Date().toISOString(),
    package: describePackage(),
    git: describeCommit(),
    node: process.version,
    machine: describeMachine(),
    seed,
    seconds: Math.round((performance.now() - started) / 1000),
  };
}
