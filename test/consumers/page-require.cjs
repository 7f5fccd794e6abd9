const api = require('rlvr-kernels');
const { check } = require('./check.cjs');

globalThis.result = { ...check(api), wasm: api.backends().find(({ name }) => name === 'wasm') };
