// What ranks cost and gain: a loss on the ranks of a communicator beside the same loss without any, and what they tell each other.

import { type Communicator, conspo, grpo, type Metrics } from '../../lib/index.js';
import { Random } from '../problems/random.js';
import { evenOffsets, LOSS_LENGTHS, oldLogProbsOf, rolloutsOfTokens } from '../problems/rollouts.js';

export interface RanksSettings {
  /** Tokens of each rank. */
  readonly tokens: number;
  readonly vocab: number;
  readonly groupSize: number;
  readonly repeats: number;
  readonly warmup: number;
  readonly seed: number;
}

export interface RanksRow {
  readonly loss: string;
  readonly from: 'log-probs' | 'logits';
  /** How the ranks share the work. */
  readonly share: 'sequences' | 'tokens' | 'columns';
  readonly tokens: number; // of all ranks
  /** One rank, while the others wait: what it holds (`sequences`, `tokens`), or all of it (`columns`). */
  readonly aloneMs: number;
  /** The slowest rank. */
  readonly ranksMs: number;
  readonly exchanges: number;
  /** That each rank sends, per token of its own. */
  readonly bytesPerToken: number;
}

/** A batch, and where its gradient goes: a new array each time would be measured with it. */
interface Problem {
  batch: object;
  out: Float32Array | Float64Array;
}

type Call = (options: object) => Promise<{ metrics: Partial<Metrics> }>;

const LOSSES: Readonly<Record<string, (batch: never, options: never) => ReturnType<Call>>> = { conspo, grpo };

/** Every case, one after the other; all ranks go through them together. */
export async function* measureRanks(comm: Communicator, settings: RanksSettings): AsyncGenerator<RanksRow> {
  for (const loss of Object.keys(LOSSES)) {
    const call = ({ batch, out }: Problem): Call => {
      const gradient = { out };
      return (options) => LOSSES[loss](batch as never, { ...options, gradient } as never);
    };
    for (const from of ['log-probs', 'logits'] as const) {
      const make = from === 'logits' ? fromLogits : fromLogProbs;
      const own = make(settings, settings.seed + comm.rank);
      const sequences = { own: call(own), alone: call(own), parallel: { data: comm } };
      yield { loss, from, share: 'sequences', ...(await compare(comm, settings, sequences)) };
    }
    const pieces = call(fromLogits(settings, settings.seed, settings.seed + comm.rank));
    const spread = { own: pieces, alone: pieces, parallel: { sequence: comm } };
    yield { loss, from: 'logits', share: 'tokens', ...(await compare(comm, settings, spread)) };
    const whole = fromLogits(settings, settings.seed);
    const edges = evenOffsets(settings.vocab, comm.size);
    const [start, end] = edges.slice(comm.rank, comm.rank + 2);
    const logits = columns(whole.batch.logits, settings.vocab, start, end);
    const own = { batch: { ...whole.batch, logits }, out: logits.slice() };
    const shared = { own: call(own), alone: call(whole), parallel: { vocab: { comm, start } } };
    yield { loss, from: 'logits', share: 'columns', ...(await compare(comm, settings, shared)) };
  }
}

/** A batch of one rank, from log-probs; `ofTokens` is a seed for what there is of each of them. */
function fromLogProbs({ tokens, groupSize }: RanksSettings, seed: number, ofTokens = seed) {
  const random = new Random(ofTokens);
  const logProbs = Float64Array.from({ length: tokens }, () => -1 - random.uniform());
  const rollouts = rolloutsOfTokens(tokens, LOSS_LENGTHS, groupSize, seed);
  return { batch: { ...rollouts, logProbs, oldLogProbs: oldLogProbsOf(logProbs) }, out: logProbs.slice() };
}

/** The same from logits. */
function fromLogits(settings: RanksSettings, seed: number, ofTokens = seed) {
  const { tokens, vocab } = settings;
  const { logProbs: _logProbs, ...rest } = fromLogProbs(settings, seed, ofTokens).batch;
  const random = new Random(ofTokens);
  const logits = Float32Array.from({ length: tokens * vocab }, () => 8 * random.uniform());
  const targets = Int32Array.from({ length: tokens }, () => Math.floor(random.uniform() * vocab));
  return { batch: { ...rest, logits, targets }, out: logits.slice() };
}

/** Columns [start, end) of logits. */
function columns(logits: Float32Array, vocab: number, start: number, end: number): Float32Array {
  const rows = logits.length / vocab;
  const width = end - start;
  const cut = new Float32Array(rows * width);
  for (let t = 0; t < rows; t++) cut.set(logits.subarray(t * vocab + start, t * vocab + end), t * width);
  return cut;
}

interface Compared {
  own: Call;
  alone: Call;
  parallel: object;
}

/** By turns: the loss on all ranks, and the one without, on the first rank while the others wait. */
async function compare(comm: Communicator, settings: RanksSettings, { own, alone, parallel }: Compared) {
  const { repeats, warmup, tokens } = settings;
  const [aloneTimes, ranksTimes]: [number[], number[]] = [[], []];
  let metrics: Partial<Metrics> = {};
  for (let round = -warmup; round < repeats; round++) {
    const apart = await timed(comm, async () => void (comm.rank === 0 && (await alone({}))));
    const together = await timed(comm, async () => {
      ({ metrics } = await own({ parallel }));
    });
    if (round < 0) continue;
    aloneTimes.push(apart);
    ranksTimes.push(together);
  }
  const { exchanges = 0, exchangedNumbers = 0 } = metrics;
  const shared = 'vocab' in parallel;
  return {
    tokens: shared ? tokens : tokens * comm.size,
    aloneMs: median(aloneTimes),
    ranksMs: median(ranksTimes),
    exchanges,
    bytesPerToken: (exchangedNumbers * Float64Array.BYTES_PER_ELEMENT) / tokens,
  };
}

const median = (values: readonly number[]) => [...values].sort((a, b) => a - b)[values.length >> 1];

/** The milliseconds of the slowest rank; all begin together. */
async function timed(comm: Communicator, work: () => Promise<void>): Promise<number> {
  await comm.allReduce(new Float64Array(1), 'max');
  const start = performance.now();
  await work();
  const [slowest] = await comm.allReduce(Float64Array.of(performance.now() - start), 'max');
  return slowest;
}
