// The command line of the benchmark.
import { parseArgs } from 'node:util';

/**
 * @typedef {import('./data.mjs').Shape} Shape
 * @typedef {object} Options
 * @property {Shape[]} shapes
 * @property {number} repeats
 * @property {number} warmup
 * @property {number} seed
 * @property {boolean} peers
 * @property {boolean} quiet
 * @property {string | undefined} json
 */

export const HELP = `Usage: npm run bench -- [options]

Times the token-level op of the cpu backend, forward and backward, beside a read and a copy of the
same bytes and beside the peers that are installed (bench/README.md). Every result is checked first.

  --shape TxV      tokens x vocabulary; repeatable (default: 256x151936 and 512x32000)
  --repeats N      timed calls of each contender (default: 21)
  --warmup N       untimed rounds before them (default: 3)
  --seed N         of the random logits (default: 1)
  --quiet          throw away and repeat rounds in which other processes were at work
  --json FILE      also write the result there
  --no-peers       only this package
  --help           print this help

RLVR_THREADS sets the threads, of the peers too; RLVR_BENCH_PYTHON names the Python that has torch.
`;

const DEFAULT_SHAPES = ['256x151936', '512x32000'];
const SHAPE_SYNTAX = /^([1-9]\d{0,8})x([1-9]\d{0,8})$/;

/** Wrong usage: the message is for the user, the exit code is 2. */
export class UsageError extends Error {}

/** @param {string} text @returns {Shape} */
function parseShape(text) {
  const match = SHAPE_SYNTAX.exec(text);
  if (!match) throw new UsageError(`--shape: expected TxV such as 256x151936, got ${JSON.stringify(text)}`);
  return { tokens: Number(match[1]), vocab: Number(match[2]) };
}

/** @param {string} name @param {string} text @param {number} min */
function parseCount(name, text, min) {
  const value = Number(text);
  if (text.trim() !== '' && Number.isSafeInteger(value) && value >= min) return value;
  throw new UsageError(`--${name}: expected a whole number of at least ${min}, got ${JSON.stringify(text)}`);
}

/** @param {string[]} args */
function readArguments(args) {
  try {
    const { values } = parseArgs({
      args,
      options: {
        shape: { type: 'string', multiple: true, default: DEFAULT_SHAPES },
        repeats: { type: 'string', default: '21' },
        warmup: { type: 'string', default: '3' },
        seed: { type: 'string', default: '1' },
        json: { type: 'string' },
        quiet: { type: 'boolean', default: false },
        'no-peers': { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
    return values;
  } catch (error) {
    throw new UsageError(/** @type {Error} */ (error).message);
  }
}

/** @param {string[]} args @returns {Options | 'help'} */
export function parseOptions(args) {
  const values = readArguments(args);
  if (values.help) return 'help';
  return {
    shapes: values.shape.map(parseShape),
    repeats: parseCount('repeats', values.repeats, 1),
    warmup: parseCount('warmup', values.warmup, 0),
    seed: parseCount('seed', values.seed, 0),
    peers: !values['no-peers'],
    quiet: values.quiet,
    json: values.json,
  };
}
