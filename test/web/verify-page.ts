// Runs in a page: every check of `rlvr-kernels verify` on wasm, against the reference.
import { checks } from '../../cli/verify/checks.js';
import { findingsOf } from '../../cli/verify/findings.js';
import { backends } from '../../lib/index.js';

Object.assign(globalThis, { result: { backends: backends(), findings: findingsOf(checks(1), ['wasm']) } });
