// The environment variables of the cpu backend, and of threads of the wasm backend. One that is set to nonsense is refused and not taken for something else;
// an empty one counts as not set.
import { badArgument, describe, type RlvrError } from '../errors.js';
import { setting } from '../platform.js';

/** As native/cpu/thread_pool.cpp has it. */
const MAX_THREADS = 1024;

/** What is wrong with RLVR_THREADS, RLVR_SIMD or RLVR_TINY_NATIVE; `simd` is the instruction set in use. */
export function wrongSetting(simd: string): RlvrError | undefined {
  const level = setting('RLVR_SIMD');
  const tiny = setting('RLVR_TINY_NATIVE');
  const wrong = wrongThreads();
  if (wrong) return wrong;
  if (level && level !== simd) {
    const lesser = process.arch === 'x64' ? ['avx2', 'portable'] : ['portable'];
    const levels = lesser.map((name) => `'${name}'`).join(' or ');
    const where = 'in an addon that has it (the prebuilt ones have no portable path) and on such a processor';
    return refusal('RLVR_SIMD', `${levels}, ${where} (in use: '${simd}')`);
  }
  if (tiny && tiny !== '0' && tiny !== '1') return refusal('RLVR_TINY_NATIVE', '0 or 1');
  return undefined;
}

/** What is wrong with RLVR_THREADS. */
export function wrongThreads(): RlvrError | undefined {
  const threads = setting('RLVR_THREADS');
  if (!threads || (/^\d+$/.test(threads) && Number(threads) >= 1 && Number(threads) <= MAX_THREADS)) return undefined;
  return refusal('RLVR_THREADS', `a whole number from 1 to ${MAX_THREADS}`);
}

function refusal(name: string, expected: string): RlvrError {
  return badArgument('ERR_BACKEND', name, expected, describe(setting(name)));
}
