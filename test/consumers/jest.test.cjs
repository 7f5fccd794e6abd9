const { check } = require('./check.cjs');

test('rlvr-kernels in Jest', () => {
  process.stdout.write(`${JSON.stringify(check(require('rlvr-kernels')))}\n`);
});
