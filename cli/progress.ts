import { Presets, SingleBar } from 'cli-progress';

/** Progress of one training run, on stderr: stdout is for results. */
export interface Progress {
  update(step: number, accuracy: number): void;
  stop(): void;
}

export function startProgress(label: string, steps: number): Progress {
  return process.stderr.isTTY ? barProgress(label, steps) : lineProgress(label, steps);
}

function barProgress(label: string, steps: number): Progress {
  const bar = new SingleBar(
    {
      format: `${label} {bar} step {value}/{total}  accuracy {accuracy}`,
      stream: process.stderr,
      // Ctrl-C is the command line's own business, which stops the bar in order.
      gracefulExit: false,
    },
    Presets.shades_classic,
  );
  bar.start(steps, 0, { accuracy: '-' });
  return {
    update: (step, accuracy) => bar.update(step, { accuracy: accuracy.toFixed(2) }),
    stop: () => bar.stop(),
  };
}

/** In a log, ten lines a run. */
function lineProgress(label: string, steps: number): Progress {
  const interval = Math.ceil(steps / 10);
  return {
    update: (step, accuracy) => {
      if (step % interval === 0 || step === steps) {
        process.stderr.write(`${label}  step ${step}/${steps}  accuracy ${accuracy.toFixed(2)}\n`);
      }
    },
    stop: () => {},
  };
}
