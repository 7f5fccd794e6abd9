// The memory of a tensor, and the copies that still need it after the tensor is disposed of.
import { cudaPromise } from '../backend/cuda.js';
import { checkAttached } from '../backend/extents.js';
import { onThread } from '../backend/threads.js';
import type { DeviceMemory, HostMatrix } from '../kernels.js';

export class HeldMemory {
  #memory: DeviceMemory;
  #owner: unknown;
  #disposed = false;
  #transfers = 0; // not done yet: they need the memory, disposed of or not

  constructor(memory: DeviceMemory, owner: unknown) {
    this.#memory = memory;
    this.#owner = owner;
  }

  /** What wrapped memory belongs to, until it is let go. */
  get owner(): unknown {
    return this.#owner;
  }

  /** None once it was disposed of. */
  get memory(): DeviceMemory | undefined {
    return this.#disposed ? undefined : this.#memory;
  }

  /** Copies rows between a host array, which an error calls `name`, and this memory, its rows `stride` elements apart. */
  async transfer(name: string, host: HostMatrix, stride: number, method: 'writeAsync' | 'readAsync'): Promise<void> {
    this.#transfers++;
    try {
      await onThread(() => {
        checkAttached(name, host.array); // it may have had to wait for a thread
        return cudaPromise(this.#memory[method](host, stride));
      });
      checkAttached(name, host.array);
    } finally {
      this.#transfers--;
      this.#release();
    }
  }

  /** Gives the memory back, once the copies under way are done with it. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#release();
  }

  #release(): void {
    if (!this.#disposed || this.#transfers > 0) return;
    this.#memory.dispose();
    this.#owner = undefined;
  }
}
