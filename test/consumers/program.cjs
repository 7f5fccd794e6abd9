const { check } = require('./check.cjs');

console.log(JSON.stringify(check(require('rlvr-kernels'))));
