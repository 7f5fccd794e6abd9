// lib/platform.ts for browsers: no environment variables, one thread, and the modules for WebAssembly inside the bundle.
import { inflateSync } from 'fflate';
import { wasmModules } from './wasm-modules.js';

export function isSharedArrayBuffer(value: unknown): value is SharedArrayBuffer {
  return Object.prototype.toString.call(value) === '[object SharedArrayBuffer]'; // a page may have no such constructor
}

export function setting(_name: string): string | undefined {
  return undefined;
}

/** What to set is of no use here. */
export function warn(message: string, code: string, _detail: string): void {
  console.warn(`[${code}] ${message}`);
}

/** As a message, which unlike a timer is not put off. */
export function nextTurn(work: () => void): void {
  const { port1, port2 } = new MessageChannel();
  const onmessage = () => {
    port1.close();
    work();
  };
  Object.assign(port1, { onmessage }); // which Node's types leave out
  port2.postMessage(null);
}

/** A page or a worker that ends calls nothing. */
export function atExit(_work: () => void): void {}

export function newMemory(bytes: number): ArrayBufferLike {
  return new ArrayBuffer(bytes);
}

export function wasmBytes(name: string): Uint8Array {
  const packed = wasmModules[name];
  if (packed === undefined) throw new Error('this bundle was made without it');
  return inflateSync(Uint8Array.from(atob(packed), (character) => character.charCodeAt(0)));
}

export function threadsAtOnce(): number {
  return 1;
}

export function startThread(): void {
  throw new Error('expected no other thread than the calling one in a browser');
}
