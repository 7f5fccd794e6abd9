// A progress bar on standard error, where that is a terminal.
import { SingleBar } from 'cli-progress';
import type { LogLine, Run } from './run.js';

const shown = (value: unknown) => (typeof value === 'number' ? value.toPrecision(3) : '–');

export async function withBar<T>(run: (onStep: NonNullable<Run['onStep']>) => Promise<T>): Promise<T> {
  const format =
    '{bar} {value}/{total}, {eta_formatted} left; loss {loss}, reward {reward}, sampled accuracy {sampled}';
  const bar = new SingleBar({ format, stream: process.stderr, noTTYOutput: false, barsize: 24 });
  let sampled: unknown;
  const payload = (line: LogLine) => {
    sampled = line.sampled ?? sampled;
    return { loss: shown(line.loss), reward: shown(line.rewardMean), sampled: shown(sampled) };
  };
  bar.start(1, 0, payload({}));
  try {
    return await run((line, done, all) => {
      bar.setTotal(all);
      bar.update(done, payload(line));
    });
  } finally {
    bar.stop();
  }
}
