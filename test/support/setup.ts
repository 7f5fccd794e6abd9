// What every test file starts with.
import fc from 'fast-check';
import { expect } from 'vitest';
import { sameElements } from './compare.js';

// Property tests draw the same cases on every run, so that a failure in CI is one anybody can repeat; RLVR_TEST_SEED
// chooses others ('random': new ones every time).
const seed = process.env.RLVR_TEST_SEED ?? '20261123';
if (seed !== 'random') fc.configureGlobal({ seed: Number(seed) });

// vitest compares typed arrays by lists of their entries, which takes a second for 250,000 elements.
expect.addEqualityTesters([sameElements]);
