// The arrays of one shape, in the memory of each backend that is measured.

import type { BackendName, DType } from '../../lib/index.js';
import { createArrays, type HostArrays, requireMemory, type TokenArrays } from '../problems/arrays.js';
import { createProblem, type TokenProblem, type TokenShape } from '../problems/data.js';
import { createDeviceArrays, type DeviceArrays } from '../problems/device-arrays.js';
import type { Contender } from '../timing.js';
import { deviceYardstick, yardsticks } from './yardsticks.js';

interface Use {
  readonly backends: readonly BackendName[];
  /** Whether peers use the host's arrays too. */
  readonly peers?: boolean;
  readonly seed: number;
  /** Copies of each of the host's arrays; by default enough to outgrow the cache. */
  readonly slots?: number;
}

export class BenchMemory {
  private readonly problem: TokenProblem;
  /** One for each dtype; none if nothing runs on the host. */
  readonly host: readonly HostArrays[];
  private readonly device: DeviceArrays[] = [];

  constructor(
    private readonly shape: TokenShape,
    dtypes: readonly DType[],
    { backends, peers = false, seed, slots }: Use,
  ) {
    const host = peers || backends.some((backend) => backend !== 'cuda');
    if (host) requireMemory(shape, dtypes);
    this.problem = createProblem(shape, seed);
    this.host = host ? dtypes.map((dtype) => createArrays(this.problem, dtype, slots)) : [];
    if (!backends.includes('cuda')) return;
    try {
      for (const dtype of dtypes) this.device.push(createDeviceArrays(this.problem, dtype));
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  of(backend: BackendName): readonly TokenArrays[] {
    return backend === 'cuda' ? this.device : this.host;
  }

  yardsticks(): Contender[] {
    const { host, device, shape } = this;
    return [
      ...(host.length > 0 ? yardsticks(host[0], shape) : []),
      ...(device.length > 0 ? [deviceYardstick(device[0], shape)] : []),
    ];
  }

  /** Gives the device's memory back. */
  dispose(): void {
    for (const arrays of this.device) arrays.dispose();
  }
}
