// A whole run, from first weights or from a checkpoint, with its log.
import { appendFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Communicator } from 'rlvr-kernels';
import { newAdam } from './adam.js';
import { type Checkpoint, load, save } from './checkpoint.js';
import { evaluate, imitate, reinforce, type Trainer } from './loop.js';
import type { MakeModel } from './model.js';
import { randomOf } from './random.js';
import type { Settings } from './settings.js';
import { TASKS } from './tasks.js';
import { firstWeights, parametersOf } from './weights.js';

/** A line of the log: settings, a step of either phase, or an evaluation. */
export type LogLine = Record<string, unknown>;

export interface Run {
  /** Its folder, for log.jsonl and checkpoint.safetensors. */
  folder: string;
  /** Called after each step, with its line, and with that of the evaluation before the first step of RLVR. */
  onStep?(line: LogLine, done: number, all: number): void;
  /** Processes that train together: each calls this, the first writes. */
  ranks?: Communicator | undefined;
  /** Ends the run before its end, after this many steps of both phases. */
  stopAfter?: number;
}

const five = (_: string, value: unknown) => (typeof value === 'number' ? Number(value.toPrecision(5)) : value);

async function modelOf(settings: Settings) {
  const task = TASKS[settings.task]();
  const { width, layers, heads } = settings;
  const shape = { vocab: task.symbols.length, maxLength: task.promptLength + task.maxAnswer, width, layers, heads };
  const { makeModel }: { makeModel: MakeModel } = await import(`./model-${settings.framework}.js`);
  return { task, shape, model: await makeModel(shape) };
}

/** The checkpoint of a warm start, for runs that begin with it, each with a new optimizer. */
export function fromWarmStart(checkpoint: Checkpoint, settings: Settings): Checkpoint {
  const weights = structuredClone(checkpoint.state.weights);
  return { settings, warm: settings.warm, step: 0, state: { weights, adam: newAdam(weights) } };
}

/** The lines of a log that were written before the checkpoint. */
function linesUntil(log: string, { warm, step }: Checkpoint): string {
  const kept = log.split('\n').filter((text) => {
    if (text === '') return false;
    const line = JSON.parse(text) as { warm?: number; step?: number };
    return line.step === undefined ? (line.warm ?? 0) <= warm : step > 0 && line.step <= step;
  });
  return kept.map((line) => `${line}\n`).join('');
}

/** Each rank has a problem of each update. */
function checkShares({ warmBatch, groups, updates }: Settings, ranks: Communicator | undefined): void {
  const fewest = Math.min(warmBatch, Math.floor(groups / updates));
  if (ranks && ranks.size > fewest) throw new Error(`${ranks.size} ranks share ${fewest} problems; take fewer ranks`);
}

/** Trains until the settings' end; returns the last checkpoint. Goes on from the folder's checkpoint, if it has one of these settings. */
export async function train(settings: Settings, run: Run, start?: Checkpoint): Promise<Checkpoint> {
  const { folder, onStep, ranks, stopAfter = Number.POSITIVE_INFINITY } = run;
  const first = (ranks?.rank ?? 0) === 0;
  checkShares(settings, ranks);
  mkdirSync(folder, { recursive: true });
  const [logFile, checkpointFile] = ['log.jsonl', 'checkpoint.safetensors'].map((name) => join(folder, name)) as [
    string,
    string,
  ];
  const { task, shape, model } = await modelOf(settings);
  const resumed = existsSync(checkpointFile) ? load(checkpointFile) : undefined;
  if (resumed && JSON.stringify(resumed.settings) !== JSON.stringify(settings)) {
    throw new Error(`${folder} has a run of other settings; give another folder, or remove it`);
  }
  let checkpoint = resumed ?? start;
  if (!checkpoint) {
    const weights = firstWeights(shape, randomOf(settings.seed));
    checkpoint = { settings, warm: 0, step: 0, state: { weights, adam: newAdam(weights) } };
  }
  const { state } = checkpoint;
  const trainer: Trainer = { settings, task, model, state, ranks };
  ranks?.allReduceSync(new Float64Array(1), 'sum'); // nobody writes before all have read
  const log = (line: LogLine) => {
    if (first) appendFileSync(logFile, `${JSON.stringify(line, five)}\n`);
  };
  if (!first) {
    // The first one's are all.
  } else if (resumed) {
    writeFileSync(logFile, linesUntil(readFileSync(logFile, 'utf8'), resumed));
  } else {
    writeFileSync(logFile, '');
    log({ settings, parameters: parametersOf(state.weights) });
  }

  let { warm, step } = checkpoint;
  const all = settings.warm + settings.steps;
  const stop = Math.min(all, warm + step + stopAfter);
  const keep = () => {
    if (first) save(checkpointFile, { settings, warm, step, state });
  };
  const after = (line: LogLine) => {
    log(line);
    if (first) onStep?.(line, warm + step, all);
  };
  const evaluation = () => (first ? evaluate(trainer) : {}); // of the same weights on all
  while (warm < settings.warm && warm + step < stop) {
    warm++;
    after(imitate(trainer, warm));
    if (warm === settings.warm) state.adam = newAdam(state.weights);
    if (warm % 100 === 0 || warm === settings.warm) keep();
  }
  if (warm === settings.warm && step === 0) after({ step, ...evaluation() });
  while (warm === settings.warm && warm + step < stop) {
    step++;
    const line = reinforce(trainer, step);
    const evaluated = step % settings.evaluateEvery === 0 || step === settings.steps;
    after(evaluated ? { ...line, ...evaluation() } : line);
    if (evaluated) keep();
  }
  model.dispose();
  return { settings, warm, step, state };
}
