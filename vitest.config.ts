import { existsSync } from 'node:fs';
import { defineConfig } from 'vitest/config';

const report = process.env.RLVR_TEST_REPORT;

const ALONE = ['abort', 'event-loop', 'garbage', 'memory', 'device-garbage'].map(
  (name) => `test/boundary/${name}.test.ts`,
);

// A backend that is absent fails the run instead of passing unseen; set the variable to ask for fewer or more.
const REQUIRED = process.env.REQUIRE_BACKENDS ?? 'reference,cpu';

const OTHER_SIMD = process.arch === 'x64' ? ['portable', 'avx2'] : ['portable'];

const NODE_20 = process.versions.node.startsWith('20.');

// The WebAssembly module that this engine does not take by itself: Node 20 has relaxed SIMD behind a flag.
const OTHER_WASM = existsSync(new URL('prebuilds/wasm', import.meta.url))
  ? [
      {
        extends: true as const,
        test: {
          name: 'other-wasm',
          include: ['test/{token-log-probs,linear-log-probs,one-pass,wasm}.test.ts'],
          execArgv: NODE_20 ? ['--experimental-wasm-relaxed-simd'] : [],
          env: { TEST_BACKENDS: 'wasm', REQUIRE_BACKENDS: '', RLVR_WASM_SIMD: NODE_20 ? 'relaxed' : 'simd128' },
        },
      },
    ]
  : [];

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
      REQUIRE_BACKENDS: REQUIRED,
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
          env: {
            RLVR_SIMD: level,
            TEST_BACKENDS: process.env.TEST_BACKENDS ?? 'reference,cpu,cuda',
            REQUIRE_BACKENDS: REQUIRED.split(',')
              .filter((backend) => backend !== 'wasm')
              .join(),
          },
        },
      })),
      ...OTHER_WASM,
      {
        // What looks at time or memory, after all the others and one file at a time.
        extends: true,
        test: { name: 'alone', include: ALONE, fileParallelism: false, sequence: { groupOrder: 1 } },
      },
    ],
  },
});
