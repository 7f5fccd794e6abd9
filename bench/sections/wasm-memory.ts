// The token level of the wasm backend on logits that live in its memory, where nothing is copied.
import { wasmMemory } from '../../lib/index.js';
import { asBytes, benchAddon } from '../problems/addon.js';
import type { HostArrays, TokenArrays } from '../problems/arrays.js';
import type { Contender } from '../timing.js';
import type { Setting } from './own.js';
import { tokenContenders } from './token-level.js';

export const IN_WASM = 'in wasmMemory';

export function wasmMemoryContenders(arrays: TokenArrays, setting: Setting): Contender[] {
  if (setting.backend !== 'wasm' || arrays.dtype !== 'f32') return [];
  const contenders = tokenContenders(placed(arrays as HostArrays), setting, ['forward', 'backward in place']);
  return contenders.map((contender) => ({ ...contender, op: `${contender.op}, ${IN_WASM}` }));
}

/** With logits in a memory of WebAssembly each, which gradients in place overwrite. */
function placed(arrays: HostArrays): HostArrays {
  const addon = benchAddon();
  const logits = arrays.logits.map((tensor) => {
    const data = wasmMemory(arrays.bytes + 64).allocate('Float32Array', tensor.data.length);
    data.set(tensor.data);
    return { ...tensor, data };
  });
  return {
    ...arrays,
    logits,
    work: logits,
    restore(slot) {
      const [from, to] = [arrays.logits[slot], logits[slot]];
      if (addon) addon.streamMemory({ source: asBytes(from), destination: asBytes(to), bytes: arrays.bytes });
      else to.data.set(from.data);
    },
    gradient: (array, slot) => (array === 'work' ? logits : arrays.out)[slot].data,
  };
}
