// `npm run bench:cuda`: the kernels on a GPU, timed next to a copy on the device and to PyTorch on the same device. See
// bench/README.md.
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describeDevice, deviceLine, deviceSlug, RESULTS } from '../../bench/cuda/machine.js';
import { type CudaListener, runCudaBench } from '../../bench/cuda/run.js';
import { UsageError } from '../errors.js';
import { CUDA_HELP, parseCudaOptions } from './cuda-options.js';
import { cudaShapeName, renderPeers, renderShape, renderSmall } from './cuda-table.js';

const print = (text: string) => void process.stdout.write(`${text}\n`);
const note = (text: string) => void process.stderr.write(`${text}\n`);

function listener(quiet: boolean): CudaListener {
  return {
    starting(part) {
      if (quiet) return;
      note(part === 'peers' ? 'peers: PyTorch' : `${cudaShapeName(part)}: making and checking data`);
    },
    measuredShape: (result) => print(`\n${renderShape(result)}`),
    measuredSmall: (result) => print(`\n${renderSmall(result)}`),
    measuredPeers: (result) => print(`\n${renderPeers(result)}`),
  };
}

async function main(): Promise<void> {
  const options = parseCudaOptions(process.argv.slice(2));
  if (options === 'help') return void process.stdout.write(CUDA_HELP);
  const device = describeDevice();
  if ('reason' in device) throw new Error(`no CUDA device: ${device.reason}`);
  if (device.emulated && options.json === undefined) {
    throw new Error('this device is the emulation, whose times mean nothing; give --json FILE to try the script on it');
  }
  const json = options.json ?? join(RESULTS, `cuda-${deviceSlug(device.name)}.json`);
  const report = await runCudaBench(options, device, listener(options.quiet));
  if (options.peers && report.peers.reason) note(`peers: ${report.peers.reason}`);
  print(`\n${deviceLine(device)}; Node ${report.node}; commit ${report.git.commit ?? 'unknown'}`);
  mkdirSync(dirname(json), { recursive: true });
  writeFileSync(json, `${JSON.stringify(report, null, 2)}\n`);
  print(json);
}

try {
  await main();
} catch (error) {
  const usage = error instanceof UsageError;
  const message = error instanceof Error ? error.message : String(error);
  note(usage ? `${message} (--help shows the usage)` : `bench: ${message}`);
  process.exitCode = usage ? 2 : 1;
}
