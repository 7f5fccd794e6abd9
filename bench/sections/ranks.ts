// What ranks cost and gain: a loss on the ranks of a communicator beside the same loss without any, and what they tell each other.

import { type Communicator, conspo, type DType, grpo, type HostTensor, type Metrics } from '../../lib/index.js';
import { type Elements, roundTo } from '../problems/data.js';
import { Random } from '../problems/random.js';
import { evenOffsets, LOSS_LENGTHS, oldLogProbsOf, rolloutsOfTokens } from '../problems/rollouts.js';

export interface RanksSettings {
  /** Tokens of each rank. */
  readonly tokens: number;
  readonly vocab: number;
  readonly dtypes: readonly DType[]; // of the logits
  readonly groupSize: number;
  readonly repeats: number;
  readonly warmup: number;
  readonly seed: number;
}

export interface RanksRow {
  readonly loss: string;
  readonly from: 'log-probs' | `${DType} logits`;
  /** How the ranks share the work. */
  readonly share: 'sequences' | 'tokens' | 'columns';
  readonly tokens: number; // of all ranks
  /** One rank, while the others wait: what it holds (`sequences`, `tokens`), or all of it (`columns`). */
  readonly aloneMs: number;
  /** The slowest of all ranks at once, each by itself with what it holds: they share the machine, and tell each other nothing. */
  readonly apartMs: number;
  /** The slowest rank, of one loss together. */
  readonly ranksMs: number;
  readonly exchanges: number;
  /** That each rank sends, per token of its own. */
  readonly bytesPerToken: number;
}

/** A batch, and where its gradient goes: a new array each time would be measured with it. */
interface Problem {
  batch: object;
  out: Float64Array | HostTensor;
}

type Call = (options: object) => Promise<{ metrics: Partial<Metrics> }>;

const LOSSES: Readonly<Record<string, (batch: never, options: never) => ReturnType<Call>>> = { conspo, grpo };

/** Every case, one after the other; all ranks go through them together. */
export async function* measureRanks(comm: Communicator, settings: RanksSettings): AsyncGenerator<RanksRow> {
  const { dtypes, seed } = settings;
  for (const loss of Object.keys(LOSSES)) {
    const call = ({ batch, out }: Problem): Call => {
      const gradient = { out };
      return (options) => LOSSES[loss](batch as never, { ...options, gradient } as never);
    };
    const measured = async (own: Problem, share: Share, others: Partial<Compared> = {}) => {
      const calls = { own: call(own), alone: call(own), apart: call(own), parallel: { [share.by]: comm }, ...others };
      return { loss, share: share.of, ...(await compare(comm, settings, calls)) };
    };
    yield { from: 'log-probs', ...(await measured(fromLogProbs(settings, seed + comm.rank), SEQUENCES)) };
    for (const dtype of dtypes) {
      const from = `${dtype} logits` as const;
      yield { from, ...(await measured(fromLogits(settings, dtype, seed + comm.rank), SEQUENCES)) };
      yield { from, ...(await measured(fromLogits(settings, dtype, seed, seed + comm.rank), TOKENS)) };
      const whole = fromLogits(settings, dtype, seed);
      const { start, own, apart } = columnsOf(whole, comm);
      const others = { alone: call(whole), apart: call(apart), parallel: { vocab: { comm, start } } };
      yield { from, ...(await measured(own, COLUMNS, others)) };
    }
  }
}

/** How ranks share the work, and the direction of `parallel`. */
interface Share {
  of: RanksRow['share'];
  by: 'data' | 'sequence' | 'vocab';
}

const SEQUENCES: Share = { of: 'sequences', by: 'data' };
const TOKENS: Share = { of: 'tokens', by: 'sequence' };
const COLUMNS: Share = { of: 'columns', by: 'vocab' };

/** A batch of one rank, from log-probs; `ofTokens` is a seed for what there is of each of them. */
function fromLogProbs({ tokens, groupSize }: RanksSettings, seed: number, ofTokens = seed) {
  const random = new Random(ofTokens);
  const logProbs = Float64Array.from({ length: tokens }, () => -1 - random.uniform());
  const rollouts = rolloutsOfTokens(tokens, LOSS_LENGTHS, groupSize, seed);
  return { batch: { ...rollouts, logProbs, oldLogProbs: oldLogProbsOf(logProbs) }, out: logProbs.slice() };
}

/** The same from logits. */
function fromLogits(settings: RanksSettings, dtype: DType, seed: number, ofTokens = seed) {
  const { tokens, vocab } = settings;
  const { logProbs: _logProbs, ...rest } = fromLogProbs(settings, seed, ofTokens).batch;
  const random = new Random(ofTokens);
  const numbers = Float32Array.from({ length: tokens * vocab }, () => 8 * random.uniform());
  const targets = Int32Array.from({ length: tokens }, () => Math.floor(random.uniform() * vocab));
  const logits = { data: roundTo(numbers, dtype), shape: [tokens, vocab] as const, dtype };
  return { batch: { ...rest, logits, targets }, out: { ...logits, data: logits.data.slice() } };
}

/** This rank's columns: as a part of the whole, and by themselves, with targets among them. */
function columnsOf({ batch }: ReturnType<typeof fromLogits>, { rank, size }: Communicator) {
  const { data, shape, dtype } = batch.logits;
  const [tokens, vocab] = shape;
  const [start, end] = evenOffsets(vocab, size).slice(rank, rank + 2);
  const width = end - start;
  const cut: Elements = dtype === 'f32' ? new Float32Array(tokens * width) : new Uint16Array(tokens * width);
  for (let t = 0; t < tokens; t++) cut.set(data.subarray(t * vocab + start, t * vocab + end), t * width);
  const logits = { data: cut, shape: [tokens, width] as const, dtype };
  const out = { ...logits, data: cut.slice() };
  const targets = batch.targets.map((id) => id % width);
  return { start, own: { batch: { ...batch, logits }, out }, apart: { batch: { ...batch, logits, targets }, out } };
}

interface Compared {
  own: Call;
  alone: Call;
  apart: Call;
  parallel: object;
}

/** By turns: one rank while the others wait, all without the others, and all together. */
async function compare(comm: Communicator, settings: RanksSettings, { own, alone, apart, parallel }: Compared) {
  const { repeats, warmup, tokens } = settings;
  const times: Record<'alone' | 'apart' | 'ranks', number[]> = { alone: [], apart: [], ranks: [] };
  let metrics: Partial<Metrics> = {};
  for (let round = -warmup; round < repeats; round++) {
    const taken = {
      alone: await timed(comm, async () => void (comm.rank === 0 && (await alone({})))),
      apart: await timed(comm, async () => void (await apart({}))),
      ranks: await timed(comm, async () => {
        ({ metrics } = await own({ parallel }));
      }),
    };
    if (round < 0) continue;
    for (const what of ['alone', 'apart', 'ranks'] as const) times[what].push(taken[what]);
  }
  const { exchanges = 0, exchangedNumbers = 0 } = metrics;
  const shared = 'vocab' in parallel;
  return {
    tokens: shared ? tokens : tokens * comm.size,
    aloneMs: median(times.alone),
    apartMs: median(times.apart),
    ranksMs: median(times.ranks),
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
