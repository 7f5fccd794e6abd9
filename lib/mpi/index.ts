/**
 * Communicators over MPI, for ranks that are processes, on one machine or many: the MPI of the machine, found at run time.
 * @module rlvr-kernels/mpi
 */

export type { MpiCommunicator } from './mpi-communicator.js';
export { type MpiLibrary, type MpiOptions, openMpi } from './open-mpi.js';
