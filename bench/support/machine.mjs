// What scripts say of the machine and the commit.
export * from '../../dist/cli/bench/machine.js';
