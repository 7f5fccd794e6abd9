// What communicators share: checks of arguments, the order of calls, and each call written once for both of its forms, as a generator
// that yields what it waits for.
import { badArgument, RlvrError } from '../errors.js';
import { newArray } from '../memory.js';
import { oneOf, typedArray } from '../validate.js';
import { isDetached } from '../views.js';
import type { Communicator } from './communicator.js';
import { type Announcement, checkMeeting } from './meeting.js';

/** What is done with the numbers of all ranks. */
export type Operation = 'sum' | 'max';

const OPERATIONS = ['sum', 'max'] as const satisfies Operation[];

/** A call, or part of one; `Step` is what it waits for. */
export type Exchange<Step, Result> = Generator<Step, Result, void>;

/** A communicator, from the few things in which they differ. */
export abstract class Collectives<Step> implements Communicator {
  abstract readonly rank: number;
  abstract readonly size: number;
  #turn: Promise<unknown> = Promise.resolve(); // of the asynchronous call made last
  #pending = 0; // asynchronous calls

  /** Tells the other ranks, and hears from each. */
  protected abstract announce(own: Announcement): Exchange<Step, Announcement[]>;
  /** Replaces `values` by those of all ranks. Every rank has as many, and at least one. */
  protected abstract combine(values: Float64Array, operation: Operation): Exchange<Step, void>;
  /** The values of every rank; at least one rank has some. */
  protected abstract collect(values: Float64Array, lengths: readonly number[]): Exchange<Step, Float64Array[]>;
  protected abstract wait(step: Step): Promise<unknown>;
  protected abstract waitSync(step: Step): void;
  /** Throws where this rank can make no call, or no blocking one. */
  protected abstract checkOpen(name: string, blocking: boolean): void;

  async allReduce(values: Float64Array, operation: Operation): Promise<Float64Array> {
    return this.inTurn(
      'allReduce',
      this.orRefused(() => this.#reduce(values, operation)),
    );
  }

  allReduceSync(values: Float64Array, operation: Operation): Float64Array {
    return this.atOnce(
      'allReduceSync',
      this.orRefused(() => this.#reduce(values, operation)),
    );
  }

  async allGather(values: Float64Array): Promise<Float64Array[]> {
    return this.inTurn(
      'allGather',
      this.orRefused(() => this.#gather(values)),
    );
  }

  allGatherSync(values: Float64Array): Float64Array[] {
    return this.atOnce(
      'allGatherSync',
      this.orRefused(() => this.#gather(values)),
    );
  }

  /** How many asynchronous calls have not settled. */
  protected get pending(): number {
    return this.#pending;
  }

  /** Runs an asynchronous call, after those before it. */
  protected async inTurn<Result>(name: string, call: Exchange<Step, Result>): Promise<Result> {
    this.checkOpen(name, false);
    this.#pending++;
    const result = this.#turn.then(() => this.#run(call)).finally(() => this.#pending--);
    this.#turn = result.catch(() => undefined); // the caller hears of it
    return result;
  }

  /** Runs a blocking call. */
  protected atOnce<Result>(name: string, call: Exchange<Step, Result>): Result {
    this.checkOpen(name, true);
    if (this.#pending > 0) {
      const message = `${name}: expected the asynchronous calls before it to be awaited, got ${this.#pending} in progress`;
      throw new RlvrError('ERR_RANK', message);
    }
    for (;;) {
      const { done, value } = call.next();
      if (done === true) return value;
      this.waitSync(value);
    }
  }

  async #run<Result>(call: Exchange<Step, Result>): Promise<Result> {
    for (;;) {
      const { done, value } = call.next();
      if (done === true) return value;
      await this.wait(value);
    }
  }

  /** Ranks that do not do the same learn it here, each of them, before any number is sent. */
  protected *meet(own: Announcement): Exchange<Step, Announcement[]> {
    const met = yield* this.announce(own);
    checkMeeting(met, this.rank);
    return met;
  }

  /** The call; where its arguments are wrong, one that lets the other ranks know. */
  protected orRefused<Result>(prepare: () => Exchange<Step, Result>): Exchange<Step, Result> {
    try {
      return prepare();
    } catch (error) {
      return this.#refused(error);
    }
  }

  *#refused(error: unknown): Exchange<Step, never> {
    try {
      yield* this.announce({ call: 'a refused call', length: 0 });
    } catch {
      // Whatever befell the other ranks, the caller hears of its own mistake.
    }
    throw error;
  }

  #reduce(values: Float64Array, operation: Operation): Exchange<Step, Float64Array> {
    const call = `allReduce '${oneOf('operation', operation, OPERATIONS)}'` as const;
    const view = typedArray('values', values, ['Float64Array']);
    const own = copy(view);
    const self = this;
    return (function* () {
      yield* self.meet({ call, length: own.length });
      if (own.length === 0) return values;
      yield* self.combine(own, operation);
      if (isDetached(view)) throw badArgument('ERR_DTYPE', 'values', 'a non-detached array', 'one that was detached');
      view.set(own);
      return values;
    })();
  }

  #gather(values: Float64Array): Exchange<Step, Float64Array[]> {
    const own = copy(typedArray('values', values, ['Float64Array']));
    const self = this;
    return (function* () {
      const met = yield* self.meet({ call: 'allGather', length: own.length });
      const lengths = met.map(({ length }) => length);
      return lengths.every((length) => length === 0)
        ? lengths.map(() => new Float64Array())
        : yield* self.collect(own, lengths);
    })();
  }
}

/** Of the caller's numbers, who may change them before the other ranks have read them. */
function copy(values: Float64Array): Float64Array {
  const own = newArray('values', Float64Array, values.length);
  own.set(values);
  return own;
}
