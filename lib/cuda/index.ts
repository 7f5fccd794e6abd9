/**
 * Losses on logits that live on a GPU: open a device, put (or wrap) tensors there, and hand them to any loss or op.
 * @packageDocumentation
 */
export { type Device, type DeviceOptions, type ForeignMemory, openDevice } from './device.js';
export { DeviceTensor } from './device-tensor.js';
