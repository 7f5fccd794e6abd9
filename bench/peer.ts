// Other packages that compute the token level too, or log-probs from hidden states. They are in the repository (bench/peers), not in the package.
import type { DType } from '../lib/index.js';
import type { HostArrays } from './problems/arrays.js';
import { WrongResult } from './problems/float64.js';
import type { LinearArena } from './problems/linear.js';
import { formatShape } from './report/figures.js';
import type { Shape } from './report/report.js';
import type { Contender } from './timing.js';

export interface Peer {
  readonly version: string;
  /** For one shape, in f32. Those of the shape before are not called any more. */
  contenders(arrays: HostArrays): Promise<Contender[]>;
  /** The same from hidden states. */
  linearContenders?(arena: LinearArena, wanted: LinearWork): Promise<Contender[]>;
  /** Processor time used so far outside this process. */
  cpuSeconds(): Promise<number>;
  close(): Promise<void>;
}

/** By the names that this package's own rows have. */
export interface LinearWork {
  readonly dtypes: readonly DType[];
  readonly ops: readonly string[];
}

export interface PeerProvider {
  readonly name: string;
  /** In which it takes part. */
  readonly sections: readonly ('token' | 'linear')[];
  /** Throws, with the reason, if it is not available. */
  open(options: { threads: number }): Promise<Peer>;
}

/** One that takes part. */
export interface OpenPeer extends Peer {
  readonly name: string;
  /** What it cannot run: op and shape, and the reason. */
  readonly failures: Map<string, string>;
}

export interface AbsentPeer {
  readonly name: string;
  readonly reason: string;
}

export async function openPeers(
  providers: readonly PeerProvider[],
  threads: number,
): Promise<{ present: OpenPeer[]; absent: AbsentPeer[] }> {
  const present: OpenPeer[] = [];
  const absent: AbsentPeer[] = [];
  for (const { name, open } of providers) {
    try {
      present.push({ name, failures: new Map(), ...(await open({ threads })) });
    } catch (error) {
      absent.push({ name, reason: firstLine(error) });
    }
  }
  return { present, absent };
}

const firstLine = (error: unknown) => (error instanceof Error ? error.message : String(error)).split('\n')[0];

/**
 * Those of its contenders that can run. One that throws is a failure of the peer, which the report names; one with a wrong
 * answer ends the run, as a wrong result of this package does.
 */
export function usableContenders(peer: OpenPeer, arrays: HostArrays): Promise<Contender[]> {
  return usable(peer, arrays.problem.shape, () => peer.contenders(arrays));
}

/** None of a peer that does not know hidden states. */
export async function usableLinearContenders(
  peer: OpenPeer,
  arena: LinearArena,
  wanted: LinearWork,
): Promise<Contender[]> {
  return usable(peer, arena.problem.shape, async () => (await peer.linearContenders?.(arena, wanted)) ?? []);
}

async function usable(peer: OpenPeer, shape: Shape, open: () => Promise<Contender[]>): Promise<Contender[]> {
  const contenders: Contender[] = [];
  const attempt = async (what: string, work: () => Promise<void>) => {
    try {
      await work();
    } catch (error) {
      if (error instanceof WrongResult) throw error;
      peer.failures.set(`${what}${formatShape(shape)}`, firstLine(error));
    }
  };
  await attempt('', async () => {
    for (const contender of await open()) {
      await attempt(`${contender.op}, `, async () => {
        await contender.check();
        contenders.push(contender);
      });
    }
  });
  return contenders;
}
