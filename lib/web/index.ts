/**
 * All of `rlvr-kernels` for browsers, without a module of Node's: the backends are `wasm`, on one thread, and `reference`. Bundlers for
 * browsers take it for `rlvr-kernels` by themselves.
 * @module rlvr-kernels/web
 */
export * from '../index.js';
