// The command line of the GPU benchmark.
import { parseArgs } from 'node:util';
import type { CudaSettings, CudaShape, SmallShape } from '../../bench/cuda/settings.js';
import type { DTypeName } from '../../lib/index.js';
import { dtypeNamed } from '../../lib/kernels.js';
import { UsageError } from '../errors.js';

export interface CudaOptions extends CudaSettings {
  /** No progress on stderr. */
  readonly quiet: boolean;
  readonly json: string | undefined;
}

const DEFAULT_SHAPES = '8192x128256:bf16,16384x151936:bf16,4096x262144:bf16,8192x128256:f32,8192x151937:bf16';
const DEFAULT_SMALL = '512x16384,4096x131072';

export const CUDA_HELP = `Usage: npm run bench:cuda -- [options]

Times the kernels on the first CUDA device: the token level and a copy of the same bytes, the small ops
launched one by one and from a graph, whole losses from device tensors; then PyTorch, in a process of
its own (bench/README.md). Every result is checked against float64 first.

  --shapes LIST     TxV:dtype, with commas; dtype f32 or bf16 (a gradient in place over a gradient
                    underflows in f16, and zeros are not timed); or empty for none
                    (default: ${DEFAULT_SHAPES.split(',').slice(0, 3).join(',')},
                    ${DEFAULT_SHAPES.split(',').slice(3).join(',')})
  --small LIST      NxT of the small ops: sequences x tokens, or empty for none (default: ${DEFAULT_SMALL})
  --repeats N       rounds; each times every contender once (default: 21)
  --inner N         runs in a row of one such timing, [T, V] kernels (default: 5)
  --small-inner N   the same for small ops (default: 200)
  --seed N          of the random logits (default: 1)
  --json FILE       where the result goes (default: bench/results/cuda-<device>.json)
  --quiet           no progress on stderr
  --no-peers        only this package
  --peer-seconds N  no new shape for the peers after so long (default: 240)
  --help            print this help

RLVR_BENCH_PYTHON names the Python that has torch; RLVR_COMMIT the commit, where there is no git. The
emulation's times mean nothing: it runs only with --json, and the file says "emulated": true.
`;

const SHAPE = /^([1-9]\d{0,8})x([1-9]\d{0,8}):(f32|bf16|float32|bfloat16)$/;
const SMALL = /^([1-9]\d{0,8})x([1-9]\d{0,8})$/;

const items = (list: string) => list.split(',').filter((item) => item !== '');

function parseShape(text: string): CudaShape {
  const match = SHAPE.exec(text);
  if (!match)
    throw new UsageError(`--shapes: expected TxV:dtype such as 8192x128256:bf16, got ${JSON.stringify(text)}`);
  return { tokens: Number(match[1]), vocab: Number(match[2]), dtype: dtypeNamed(match[3] as DTypeName) };
}

function parseSmall(text: string): SmallShape {
  const match = SMALL.exec(text);
  const [sequences, tokens] = match ? [Number(match[1]), Number(match[2])] : [0, 0];
  if (sequences >= 2 && tokens >= sequences) return { sequences, tokens };
  throw new UsageError(`--small: expected NxT with 2 <= N <= T, such as 512x16384, got ${JSON.stringify(text)}`);
}

function count(name: string, text: string, min: number): number {
  const value = Number(text);
  if (text.trim() !== '' && Number.isSafeInteger(value) && value >= min) return value;
  throw new UsageError(`--${name}: expected a whole number of at least ${min}, got ${JSON.stringify(text)}`);
}

function readArguments(args: string[]) {
  try {
    const { values } = parseArgs({
      args,
      options: {
        shapes: { type: 'string', default: DEFAULT_SHAPES },
        small: { type: 'string', default: DEFAULT_SMALL },
        repeats: { type: 'string', default: '21' },
        inner: { type: 'string', default: '5' },
        'small-inner': { type: 'string', default: '200' },
        seed: { type: 'string', default: '1' },
        json: { type: 'string' },
        quiet: { type: 'boolean', default: false },
        'no-peers': { type: 'boolean', default: false },
        'peer-seconds': { type: 'string', default: '240' },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
    return values;
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

export function parseCudaOptions(args: string[]): CudaOptions | 'help' {
  const values = readArguments(args);
  if (values.help) return 'help';
  return {
    shapes: items(values.shapes).map(parseShape),
    small: items(values.small).map(parseSmall),
    repeats: count('repeats', values.repeats, 1),
    inner: count('inner', values.inner, 1),
    smallInner: count('small-inner', values['small-inner'], 1),
    seed: count('seed', values.seed, 0),
    quiet: values.quiet,
    peers: !values['no-peers'],
    peerSeconds: count('peer-seconds', values['peer-seconds'], 1),
    json: values.json,
  };
}
