import * as api from 'rlvr-kernels';
import { check } from './check.cjs';

console.log(JSON.stringify(check(api)));
