// Property tests draw the same cases on every run, so that a failure in CI is one anybody can repeat; RLVR_TEST_SEED
// chooses others ('random': new ones every time).
import fc from 'fast-check';

const seed = process.env.RLVR_TEST_SEED ?? '20261123';
if (seed !== 'random') fc.configureGlobal({ seed: Number(seed) });
