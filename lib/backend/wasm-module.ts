// The modules of the wasm backend (native/wasm): which of the two this engine runs, and instances of it. An instance has a memory of its
// own, which holds what kernels work on: arrays that live there already, and copies of all others.
import { badArgument, describe } from '../errors.js';
import { setting, wasmBytes } from '../platform.js';
import { packageVersion } from '../version.js';
import type { Absent } from './addon.js';
import { type Memory, WasmViews } from './wasm-views.js';

/** What the package uses of WebAssembly, which Node's types leave out. */
export interface Engine {
  Module: new (bytes: Uint8Array) => object;
  Instance: new (module: object, imports: { env: { memory: Memory } }) => { exports: unknown };
  Memory: new (limits: { initial: number; maximum: number; shared?: boolean }) => Memory;
  validate(bytes: Uint8Array): boolean;
}

type Address = number;

/** The export table of native/wasm. Kernels take the address of their arguments, see wasm-call.ts. */
export interface WasmExports {
  version(): Address;
  allocate(bytes: number): Address; // 0: there is no memory
  release(address: Address): void;
  tokenLogProbsForward(values: Address): void;
  tokenLogProbsBackward(values: Address): void;
  tokenLogProbsOnePass(values: Address): void;
  sequenceLogProbsForward(values: Address): void;
  sequenceLogProbsBackward(values: Address): void;
  ratioScoresForward(values: Address): void;
  ratioScoresBackward(values: Address): void;
  groupInfoNCE(values: Address): void;
  advantageObjective(values: Address): void;
  sampleTokens(values: Address): void;
  sampleTokensKept(values: Address): void;
  linearTileColumns(width: number): number;
  linearForwardStart(values: Address): Address;
  linearForwardOpen(pass: Address, values: Address): void;
  linearForwardStep(pass: Address): number;
  linearForwardEnd(pass: Address): void;
  linearBackwardStart(values: Address): Address;
  linearBackwardOpen(pass: Address, values: Address): void;
  linearBackwardStep(pass: Address): number;
  linearBackwardEnd(pass: Address): void;
}

/** Instruction sets that there are modules for. */
export type WasmSimd = 'relaxed' | 'simd128';

const FILES: Readonly<Record<WasmSimd, string>> = {
  relaxed: 'rlvr_kernels.relaxed.wasm',
  simd128: 'rlvr_kernels.wasm',
};

/** A function of vectors whose body is the given instruction, on as many operands. */
function usesInstruction(operands: number, ...instruction: number[]): Uint8Array {
  const body = [0, ...Array.from({ length: operands }, () => [0x20, 0]).flat(), ...instruction, 0x0b];
  const code = [10, body.length + 2, 1, body.length, ...body];
  return Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 6, 1, 0x60, 1, 0x7b, 1, 0x7b, 3, 2, 1, 0, ...code);
}

const F32X4_MUL = usesInstruction(2, 0xfd, 0xe6, 0x01);
const F32X4_RELAXED_MADD = usesInstruction(3, 0xfd, 0x85, 0x02);

const PAGE = 65536; // bytes
const PAGES = 65536; // at most
const INITIAL = 2 ** 21; // bytes: data, stack, and a few blocks
const SHARED_GROWTH = 2 ** 26; // bytes, for what kernels need besides

/** What another thread needs for an instance of its own, whose memory this thread sees. */
export interface SharedParts {
  module: object;
  memory: Memory;
}

export interface WasmModule {
  simd: WasmSimd;
  /** A new instance, whose memory is of so many bytes and does not grow, or grows as needed. */
  instantiate(fixedBytes?: number): WasmInstance;
  /** Parts for an instance with room for so many bytes of arguments in a memory that two threads see. Throws where there are none. */
  share(bytes: number): SharedParts;
}

/** The module for this engine, or why there is none. `RLVR_WASM_SIMD=simd128` asks for the one that needs less. */
export function wasmModule(): WasmModule | Absent {
  const { WebAssembly: engine } = globalThis as unknown as { WebAssembly?: Engine };
  if (!engine?.validate(F32X4_MUL)) return { reason: 'there is no WebAssembly with SIMD here' };
  const wanted = setting('RLVR_WASM_SIMD');
  if (wanted && !Object.hasOwn(FILES, wanted)) {
    const { message } = badArgument('ERR_BACKEND', 'RLVR_WASM_SIMD', "'simd128' or 'relaxed'", describe(wanted));
    return { reason: message, asked: true };
  }
  const simd = (wanted as WasmSimd) || (engine.validate(F32X4_RELAXED_MADD) ? 'relaxed' : 'simd128');
  try {
    return load(engine, simd);
  } catch (error) {
    return { reason: String((error as Error).message).split('\n')[0] };
  }
}

function load(engine: Engine, simd: WasmSimd): WasmModule | Absent {
  let bytes: Uint8Array;
  try {
    bytes = wasmBytes(FILES[simd]);
  } catch (error) {
    const build = 'npm run build:wasm builds it in a clone';
    return { reason: `no module for WebAssembly: ${(error as Error).message.split('\n')[0]} (${build})` };
  }
  const module = new engine.Module(bytes);
  const instantiate = (fixedBytes?: number) => {
    const pages = Math.ceil((fixedBytes ?? INITIAL) / PAGE);
    const memory = new engine.Memory({ initial: pages, maximum: fixedBytes === undefined ? PAGES : pages });
    const { exports } = new engine.Instance(module, { env: { memory } });
    return new WasmInstance(memory, withMemoryErrors(exports as WasmExports));
  };
  let shareable: object | undefined;
  const share = (room: number) => {
    shareable ??= new engine.Module(withSharedMemory(bytes));
    const pages = Math.ceil((INITIAL + room) / PAGE);
    const memory = new engine.Memory({ initial: pages, maximum: pages + SHARED_GROWTH / PAGE, shared: true });
    return { module: shareable, memory };
  };
  const { version } = instantiate();
  if (version === packageVersion()) return { simd, instantiate, share };
  return { reason: `${FILES[simd]} is of version ${version}, this is version ${packageVersion()}` };
}

const IMPORTED_MEMORY = '\x03env\x06memory\x02'; // its names, and that it is one
const HAS_MAXIMUM = 1;
const IS_SHARED = 2;

/** The module with another kind of memory. Its code is the same: one thread at a time works in a memory. */
function withSharedMemory(bytes: Uint8Array): Uint8Array {
  const changed = bytes.slice();
  const flags = new TextDecoder('latin1').decode(bytes).indexOf(IMPORTED_MEMORY) + IMPORTED_MEMORY.length;
  changed[flags] = HAS_MAXIMUM | IS_SHARED;
  return changed;
}

/** There is no memory for what a kernel needs. */
export class NoWasmMemory extends Error {}

/** The exports, of which those that find no memory throw that: without exceptions they can only trap. */
function withMemoryErrors(exports: WasmExports): WasmExports {
  const guarded = Object.entries(exports as unknown as Record<string, (...values: number[]) => number>).map(
    ([name, run]) => {
      const guard = (...values: number[]) => {
        try {
          return run(...values);
        } catch (error) {
          if (!/unreachable/.test(String((error as Error).message))) throw error;
          throw new NoWasmMemory('backend: expected memory for a kernel in WebAssembly, got none', { cause: error });
        }
      };
      return [name, guard];
    },
  );
  return Object.fromEntries(guarded);
}

export class WasmInstance extends WasmViews {
  readonly exports: WasmExports;
  #arena = 0;
  #arenaBytes = 0;

  constructor(memory: Memory, exports: WasmExports) {
    super(memory);
    this.exports = exports;
  }

  get version(): string {
    const { u8 } = this.views;
    const begin = this.exports.version();
    return String.fromCharCode(...u8.subarray(begin, u8.indexOf(0, begin)));
  }

  allocate(bytes: number): Address {
    const address = this.exports.allocate(bytes) >>> 0; // addresses are numbers of 32 bits, without a sign
    if (address !== 0) return address;
    throw new NoWasmMemory(`backend: expected memory for ${bytes} bytes in WebAssembly, got none`);
  }

  /** Memory for the arguments of one call, which the next one may have. */
  arena(bytes: number): Address {
    if (bytes <= this.#arenaBytes) return this.#arena;
    if (this.#arena !== 0) this.exports.release(this.#arena);
    this.#arenaBytes = 0;
    this.#arena = this.allocate(bytes);
    this.#arenaBytes = bytes;
    return this.#arena;
  }
}
