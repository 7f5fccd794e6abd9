import { defineConfig } from 'vitest/config';

const report = process.env.RLVR_TEST_REPORT;

const ALONE = ['abort', 'event-loop', 'garbage', 'memory', 'device-garbage'].map(
  (name) => `test/boundary/${name}.test.ts`,
);

const OTHER_SIMD = process.arch === 'x64' ? ['portable', 'avx2'] : ['portable'];

export default defineConfig({
  test: {
    // Processes, not threads: the addon's own threads, its environment cleanup and a preloaded sanitizer runtime
    // are tested as users meet them. Worker threads have tests of their own in test/boundary.
    pool: 'forks',
    maxWorkers: '100%', // one less than the cores, the default, is half of them on CI
    testTimeout: 60_000,
    hookTimeout: 60_000,
    setupFiles: ['test/support/setup.ts'],
    // RLVR_TEST_REPORT names a file for the counts, which CI reads.
    reporters: report ? ['default', ['json', { outputFile: report }]] : ['default'],
    env: {
      // A backend that is absent fails the run instead of passing unseen; set the variable to ask for fewer or more.
      REQUIRE_BACKENDS: process.env.REQUIRE_BACKENDS ?? 'reference,cpu',
      RLVR_TINY_NATIVE: '1', // small cases are to test the addon's kernels, not to run in TypeScript (lib/backend/tiny.ts)
    },
    projects: [
      {
        extends: true,
        test: {
          name: 'default',
          include: ['test/**/*.test.ts'],
          exclude: ['test/native/**', '**/node_modules/**', ...ALONE],
        },
      },
      ...OTHER_SIMD.map((level) => ({
        // The token level again, on the paths for lesser processors.
        extends: true as const,
        test: {
          name: `${level}-simd`,
          include: [
            'test/{token-log-probs,linear-log-probs,linear-kept-logits,matrix-product,simd-exp}.test.ts',
            'test/{conspo,streamed-gradient,ratio-scores,grpo,overflow,sample-tokens}.test.ts',
          ],
          env: { RLVR_SIMD: level },
        },
      })),
      {
        // What looks at time or memory, after all the others and one file at a time.
        extends: true,
        test: { name: 'alone', include: ALONE, fileParallelism: false, sequence: { groupOrder: 1 } },
      },
    ],
  },
});
