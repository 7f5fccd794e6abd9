// A batch cut for several ranks, and what they give back put together again.
import type { Communicator } from '../../lib/index.js';
import { inProcess } from '../../lib/index.js';
import { segmentOf } from './packed.js';

interface Cuttable {
  cuSeqlens: Int32Array;
  cuGroups: Int32Array;
}

/** [N] which group each sequence is in. */
export function groupIdsOf({ cuSeqlens, cuGroups }: Cuttable): Int32Array {
  return Int32Array.from({ length: cuSeqlens.length - 1 }, (_, i) => segmentOf(cuGroups, i));
}

/** A batch with ids in place of offsets of its groups, of which none is then empty. */
export function withIds<B extends Cuttable>(batch: B) {
  const { cuGroups: _offsets, ...rest } = batch;
  return { ...rest, groupIds: groupIdsOf(batch) };
}

/** Sequences [first, last) of a batch, for one rank; groups by their ids in the whole batch. */
export function sequencesOf<B extends Cuttable>(batch: B, first: number, last: number) {
  const { cuSeqlens } = batch;
  const [N, T] = [cuSeqlens.length - 1, cuSeqlens[cuSeqlens.length - 1]];
  const [begin, end] = [cuSeqlens[first], cuSeqlens[last]];
  const cut = (name: string, value: unknown): unknown => {
    if (!ArrayBuffer.isView(value)) return value;
    const array = value as Float64Array;
    if (name === 'rewards' || (name === 'advantages' && array.length === N)) {
      const columns = array.length / N;
      return array.slice(first * columns, last * columns);
    }
    const width = array.length / T; // V for logits, 1 for anything per token
    return array.slice(begin * width, end * width);
  };
  const { cuGroups, ...rest } = batch;
  const fields = Object.fromEntries(Object.entries(rest).map(([name, value]) => [name, cut(name, value)]));
  return {
    ...(fields as Omit<B, 'cuGroups'>),
    cuSeqlens: cuSeqlens.slice(first, last + 1).map((offset) => offset - begin),
    groupIds: groupIdsOf(batch).slice(first, last),
  };
}

/** Where to cut N sequences for so many ranks: unevenly, and from three on with a rank that has none. */
export function cutsFor(sequences: number, size: number): [first: number, last: number][] {
  const at = Array.from({ length: size + 1 }, (_, r) => Math.floor((sequences * r * (r + 1)) / (size * (size + 1))));
  if (size > 2) at[1] = at[2];
  return at.slice(1).map((last, r) => [at[r], last]);
}

/** What each rank makes of its part, all at once. */
export async function onRanks<R>(size: number, work: (comm: Communicator, rank: number) => Promise<R>): Promise<R[]> {
  const ranks = inProcess(size);
  try {
    return await Promise.all(ranks.map((comm, rank) => work(comm, rank)));
  } finally {
    for (const rank of ranks) rank.close();
  }
}

/** As {@link onRanks}, how each ended. */
export async function settledRanks<R>(size: number, work: (comm: Communicator, rank: number) => Promise<R>) {
  return Promise.allSettled(inProcess(size).map((comm, rank) => work(comm, rank)));
}

/** Every place of a grid at once, with a communicator along each direction. Results in the order of the places, the last index first to move. */
export async function onGrid<R>(
  sizes: readonly number[],
  work: (comms: Communicator[], place: number[]) => Promise<R>,
): Promise<R[]> {
  const places = sizes.reduce<number[][]>(
    (all, size) => all.flatMap((place) => Array.from({ length: size }, (_, k) => [...place, k])),
    [[]],
  );
  const lines = new Map<string, Communicator[]>();
  const along = (place: number[], direction: number) => {
    const line = [direction, ...place.toSpliced(direction, 1)].join();
    if (!lines.has(line)) lines.set(line, inProcess(sizes[direction]));
    return lines.get(line)![place[direction]];
  };
  return Promise.all(
    places.map((place) =>
      work(
        sizes.map((_, direction) => along(place, direction)),
        place,
      ),
    ),
  );
}

interface Packed {
  cuSeqlens: Int32Array;
}

/**
 * Of each rank which tokens of a batch it holds: of every sequence a stretch, uneven ones, and of
 * three ranks and more those of one mostly empty.
 */
export function tokensOfRanks({ cuSeqlens }: Packed, size: number): { tokens: number[]; cuSeqlens: Int32Array }[] {
  return Array.from({ length: size }, (_, rank) => {
    const tokens: number[] = [];
    const offsets = [0];
    for (let i = 0; i + 1 < cuSeqlens.length; i++) {
      const length = cuSeqlens[i + 1] - cuSeqlens[i];
      const edge = (r: number) => Math.floor((length * r * (r + 1)) / (size * (size + 1)));
      const at = (r: number) => edge(size > 2 && r === 1 && i % 3 !== 0 ? 2 : r);
      for (let t = at(rank); t < at(rank + 1); t++) tokens.push(cuSeqlens[i] + t);
      offsets.push(tokens.length);
    }
    return { tokens, cuSeqlens: Int32Array.from(offsets) };
  });
}

/** Some tokens of a batch, for one rank: of everything that is [T] or [T, V] their rows. */
export function pieceOf<B extends Packed>(
  batch: B,
  { tokens, cuSeqlens }: { tokens: number[]; cuSeqlens: Int32Array },
): B {
  const { cuSeqlens: whole } = batch;
  const [N, T] = [whole.length - 1, whole[whole.length - 1]];
  const cut = (name: string, value: unknown): unknown => {
    if (!ArrayBuffer.isView(value) || PER_SEQUENCE.has(name)) return value;
    const array = value as Float64Array;
    if (name === 'advantages' && array.length === N) return array;
    const width = array.length / T;
    const own = new (array.constructor as typeof Float64Array)(tokens.length * width);
    tokens.forEach((t, k) => {
      own.set(array.subarray(t * width, (t + 1) * width), k * width);
    });
    return own;
  };
  const fields = Object.fromEntries(Object.entries(batch).map(([name, value]) => [name, cut(name, value)]));
  return { ...(fields as unknown as B), cuSeqlens };
}

const PER_SEQUENCE: ReadonlySet<string> = new Set([
  'scores',
  'tokenCounts',
  'rewards',
  'cuGroups',
  'groupIds',
  'groupOrder',
  'cuSeqlens',
]);

/** One after the other. */
export function joined(parts: readonly ArrayLike<number>[]): number[] {
  return parts.flatMap((part) => Array.from(part));
}

/** Columns [first, last) of logits [T, V] in rows that lie further apart than they are wide. */
export function columnsOf(logits: Float32Array, vocab: number, first: number, last: number) {
  const tokens = logits.length / vocab;
  const [width, rowStride] = [last - first, last - first + 3];
  const data = new Float32Array(Math.max(tokens * rowStride - 3, 0));
  for (let t = 0; t < tokens; t++) data.set(logits.subarray(t * vocab + first, t * vocab + last), t * rowStride);
  return { data, shape: [tokens, width] as const, dtype: 'f32' as const, rowStride };
}

/** The other way: [T, V] from what each rank has of its columns. */
export function joinedColumns(
  parts: readonly { data: unknown; shape: readonly [number, number]; rowStride?: number }[],
) {
  const tokens = parts[0].shape[0];
  return Array.from({ length: tokens }, (_, t) =>
    parts.flatMap(({ data, shape, rowStride = shape[1] }) =>
      Array.from((data as Float32Array).subarray(t * rowStride, t * rowStride + shape[1])),
    ),
  ).flat();
}
