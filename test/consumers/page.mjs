import * as api from 'rlvr-kernels';
import { check } from './check.cjs';

globalThis.result = { ...check(api), wasm: api.backends().find(({ name }) => name === 'wasm') };
