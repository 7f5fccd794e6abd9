import { Presets, SingleBar } from 'cli-progress';

/** Progress of one experiment, on stderr: stdout is for results. */
export interface Progress {
  /** Fraction done. */
  update(done: number): void;
  stop(): void;
}

const STEPS = 100;

export function startProgress(label: string): Progress {
  process.stderr.write(`${label}: making and checking data\n`);
  return process.stderr.isTTY ? barProgress(label) : lineProgress(label);
}

function barProgress(label: string): Progress {
  const bar = new SingleBar(
    {
      format: '{bar} {percentage}%, about {eta_formatted} left',
      stream: process.stderr,
      clearOnComplete: true,
      // The command line handles Ctrl-C, and stops the bar.
      gracefulExit: false,
    },
    Presets.shades_classic,
  );
  let started = false;
  return {
    update(done) {
      if (!started) bar.start(STEPS, 0, { label });
      started = true;
      bar.update(Math.floor(STEPS * done));
    },
    stop: () => bar.stop(),
  };
}

/** In a log: four lines for each experiment. */
function lineProgress(label: string): Progress {
  let quarter = 0;
  return {
    update(done) {
      if (Math.floor(4 * done) <= quarter) return;
      quarter = Math.floor(4 * done);
      process.stderr.write(`${label}: ${25 * quarter} % of the rounds\n`);
    },
    stop: () => {},
  };
}
