// What comes of the checks.
import { normError } from '../../bench/problems/float64.js';
import { withoutTiny } from '../../lib/backend/tiny.js';
import { type BackendName, RlvrError } from '../../lib/index.js';
import type { Arrays, Check } from './checks.js';

/** One check on one backend. */
export interface Finding {
  readonly check: string;
  readonly dtype: string | null;
  readonly backend: BackendName;
  readonly error: number | null; // relative, the worst of the check's arrays; null where it is no number
  readonly tolerance: number;
  readonly pass: boolean | null; // null: not run
  readonly reason?: string; // what was thrown
}

export function findingsOf(all: readonly Check[], others: readonly BackendName[]): Finding[] {
  return others.flatMap((backend) =>
    all.filter(({ only }) => only === undefined || only === backend).map((check) => examine(check, backend)),
  );
}

function examine(check: Check, backend: BackendName): Finding {
  try {
    const actual = withoutTiny(() => check.run(backend));
    return judge(check, backend, actual, check.expected?.() ?? check.run('reference'));
  } catch (error) {
    return failedCheck(check, backend, error);
  }
}

const about = ({ name, dtype, tolerance }: Check, backend: BackendName) => ({ check: name, dtype, backend, tolerance });

/** What comes of a check that gave these arrays. */
export function judge(check: Check, backend: BackendName, actual: Arrays, expected: Arrays): Finding {
  const errors = Object.keys(expected).map((key) => normError(actual[key], expected[key]));
  const error = Math.max(0, ...errors); // NaN if any is
  return { ...about(check, backend), error: Number.isFinite(error) ? error : null, pass: error <= check.tolerance };
}

/** What comes of one that threw. */
export function failedCheck(check: Check, backend: BackendName, error: unknown): Finding {
  const pass = check.needsLibrary && error instanceof RlvrError && error.code === 'ERR_BACKEND' ? null : false;
  const reason = error instanceof Error ? error.message : String(error);
  return { ...about(check, backend), error: null, pass, reason };
}
