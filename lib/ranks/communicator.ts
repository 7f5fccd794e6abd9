/**
 * Ranks that compute one loss together. Every rank makes the same calls in the same order. {@link inProcess} makes them for threads,
 * `openMpi` of `rlvr-kernels/mpi` for processes, on one machine or many; an object of your own may be one too.
 *
 * A call that a rank cannot make (a bad argument) or makes otherwise than the others (another length, another operation) fails on every
 * rank, with an error that names one; the next call works again. An asynchronous call takes the numbers at once, and gives them back
 * when it settles; several at a time run in the order in which they were made.
 */
export interface Communicator {
  /** Which of the ranks this is: 0 ... size - 1. */
  readonly rank: number;
  /** How many ranks there are. */
  readonly size: number;
  /**
   * Replaces `values` by their element-wise sum or maximum over all ranks, the same bits on each; resolves to `values` itself. All
   * ranks give the same length. A NaN on one rank makes the sum NaN, and the maximum too; of 0 and -0 the maximum is 0.
   */
  allReduce(values: Float64Array, operation: 'sum' | 'max'): Promise<Float64Array>;
  /** {@link Communicator.allReduce}, blocking. */
  allReduceSync(values: Float64Array, operation: 'sum' | 'max'): Float64Array;
  /** The values of every rank, by rank; lengths may differ. The arrays are new, and may be parts of one buffer. */
  allGather(values: Float64Array): Promise<Float64Array[]>;
  /** {@link Communicator.allGather}, blocking. */
  allGatherSync(values: Float64Array): Float64Array[];
}
