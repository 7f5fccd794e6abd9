/**
 * Communicators over NCCL, for ranks that have a GPU each: the NCCL of the machine, found at run time.
 * @module rlvr-kernels/nccl
 */

export type { NcclCommunicator, NcclLibrary } from './nccl-communicator.js';
export { type NcclOptions, openNccl } from './open-nccl.js';
