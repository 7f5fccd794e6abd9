import { Presets, SingleBar } from 'cli-progress';

export interface ProgressForm {
  readonly total: number;
  /** The bar, as cli-progress takes it. `{text}`: that of the last update. */
  readonly bar: string;
  readonly clearOnComplete: boolean;
  /** In a log there is no bar, but so many lines in all. */
  readonly lines: number;
  readonly signal: AbortSignal;
}

/** Progress of one piece of work, on stderr: stdout is for results. */
export interface Progress {
  update(done: number, text: string): void;
  stop(): void;
}

export function startProgress(form: ProgressForm): Progress {
  return process.stderr.isTTY ? barProgress(form) : lineProgress(form);
}

function barProgress({ total, bar: format, clearOnComplete, signal }: ProgressForm): Progress {
  // Ctrl-C is the command line's business.
  const options = { format, clearOnComplete, stream: process.stderr, gracefulExit: false };
  const bar = new SingleBar(options, Presets.shades_classic);
  let started = false;
  // It has turned the terminal's line wrapping off, and nobody may come to stop it in order.
  const stop = () => bar.stop();
  signal.addEventListener('abort', stop);
  return {
    update(done, text) {
      if (!started) bar.start(total, 0, { text });
      started = true;
      bar.update(done, { text });
    },
    stop() {
      signal.removeEventListener('abort', stop);
      stop();
    },
  };
}

function lineProgress({ total, lines }: ProgressForm): Progress {
  let written = 0;
  return {
    update(done, text) {
      const due = Math.floor((lines * done) / total);
      if (due <= written) return;
      written = due;
      process.stderr.write(`${text}\n`);
    },
    stop() {},
  };
}
