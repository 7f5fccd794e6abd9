/**
 * Losses on logits that live on a GPU: open a device, put (or wrap) tensors there, and hand them to any loss or op.
 * @module rlvr-kernels/cuda
 */
export { type Device, DeviceTensor } from './device.js';
export type { ForeignMemory } from './foreign-memory.js';
export { type DeviceOptions, openDevice } from './open-device.js';
