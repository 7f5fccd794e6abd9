// The options of `bench`, as the command line reads them, and what they add up to.

import { type Command, InvalidArgumentError, Option } from 'commander';
import type { PeerProvider } from '../../bench/peer.js';
import type { LinearShape } from '../../bench/problems/linear.js';
import {
  defaultLinearPresets,
  defaultLinearTokens,
  defaultPresets,
  defaultTokens,
  defaultWidth,
  PRESETS,
  type PresetName,
  presetNames,
} from '../../bench/problems/presets.js';
import type { Lengths } from '../../bench/problems/rollouts.js';
import type { BenchSettings } from '../../bench/run.js';
import { defaultSections, type SectionName, sectionNames } from '../../bench/sections/experiment.js';
import { DEFAULT_LOSSES, LOSSES, type LossFunction } from '../../bench/sections/loss-functions.js';
import { type BackendName, backends, type DType, type DTypeName } from '../../lib/index.js';
import { DTYPE_CODES, DTYPE_NAMES, dtypeNamed } from '../../lib/kernels.js';
import { UsageError } from '../errors.js';
import { backendNames, numberWithin, resolveBackend } from '../options.js';

export interface BenchOptions {
  readonly preset?: readonly PresetName[];
  readonly tokens?: number;
  readonly vocab?: number;
  readonly width?: number;
  readonly sequences: number;
  readonly groupSize: number;
  readonly lengths?: Lengths;
  readonly backend?: readonly BackendName[];
  readonly dtype?: readonly DTypeName[];
  readonly loss?: readonly string[];
  readonly threads?: number;
  readonly repeats: number;
  readonly warmup: number;
  readonly seed: number;
  readonly quiet: boolean;
  readonly json?: string;
  readonly markdown?: string;
  readonly html?: string;
  readonly compare?: string;
  /** false: none; true: all that are installed; names: those of these that are. */
  readonly peers?: boolean | readonly string[];
  readonly installPeers?: boolean;
}

/** What the repository adds to the command that is shipped. */
export interface BenchExtras {
  readonly peers: readonly PeerProvider[];
  /** Losses of a user's own, by name. */
  readonly losses: Readonly<Record<string, LossFunction>>;
  readonly installPeers?: () => void;
}

const dtypeNames = Object.keys(DTYPE_CODES) as DType[];

/** A parser for names separated by commas, in an option that may be repeated. */
function names<T extends string>(known: readonly T[]): (text: string, previous?: unknown) => T[] {
  const isKnown = (name: string): name is T => (known as readonly string[]).includes(name);
  return (text, previous) => {
    const given = text.split(',').map((name) => name.trim());
    const unknown = given.find((name) => !isKnown(name));
    if (unknown !== undefined) {
      throw new InvalidArgumentError(`Expected names out of ${known.join(', ')}, got ${JSON.stringify(unknown)}.`);
    }
    return [...new Set([...(Array.isArray(previous) ? previous : []), ...given.filter(isKnown)])];
  };
}

/** "256" or "64-448". */
function parseLengths(text: string): Lengths {
  const match = /^([1-9]\d{0,6})(?:-([1-9]\d{0,6}))?$/.exec(text);
  const [min, max] = [Number(match?.[1]), Number(match?.[2] ?? match?.[1])];
  if (match && min <= max) return { min, max };
  throw new InvalidArgumentError(
    `Expected a length such as 256 or a range such as 64-448, got ${JSON.stringify(text)}.`,
  );
}

function namesOption<T extends string>(flags: string, description: string, known: readonly T[]): Option {
  return new Option(flags, description).argParser(names(known));
}

const count = (min: number, max = 2 ** 31 - 1) => numberWithin({ min, max, integer: true });

export function addBenchOptions(command: Command, { peers, losses, installPeers }: BenchExtras): void {
  const lossNames = [...Object.keys(LOSSES), ...Object.keys(losses)];
  const heading = (text: string, options: readonly Option[]) => {
    for (const option of options) command.addOption(option.helpGroup(text));
  };
  heading('What:', [
    namesOption('--preset <names>', `shapes: ${presetNames.join(', ')}`, presetNames),
    new Option('--tokens <number>', 'rows of the logits, in place of those of the presets').argParser(count(1)),
    new Option(
      '--vocab <number>',
      `a vocabulary of your own, with --tokens (${defaultTokens}; linear: ${defaultLinearTokens})`,
    ).argParser(count(1)),
    new Option('--width <number>', `of the hidden states in linear, with --vocab (${defaultWidth})`).argParser(
      count(1),
    ),
    new Option('--sequences <number>', 'sequences of scores, objectives and groups').argParser(count(2)).default(4096),
    new Option('--lengths <range>', 'tokens of a sequence, N or MIN-MAX (128-384; losses: 32)').argParser(parseLengths),
    new Option('--group-size <number>', 'sequences of a group').argParser(count(2)).default(8),
    namesOption(
      '--dtype <names>',
      `of the logits: ${dtypeNames.join(', ')}, or in full (all; losses and ranks: f32; linear: f32,bf16)`,
      DTYPE_NAMES,
    ),
    namesOption(
      '--backend <names>',
      'backends to measure (cpu, or else wasm, or else reference; and cuda, if available)',
      backendNames,
    ),
    namesOption('--loss <names>', 'losses of the section losses (conspo,grpo)', lossNames),
  ]);
  heading('How:', [
    new Option('--threads <number>', 'threads of the cpu backend, and of the peers').argParser(count(1, 1024)),
    new Option('--repeats <number>', 'timed calls of each contender').argParser(count(1, 1e6)).default(21),
    new Option('--warmup <number>', 'untimed rounds before them').argParser(count(0, 1e6)).default(3),
    new Option('--seed <number>', 'seed of the data').argParser(count(0, 2 ** 32 - 1)).default(1),
    new Option('--quiet', 'throw away and repeat rounds in which other processes were at work').default(false),
  ]);
  heading('Result:', [
    new Option('--json <file>', 'write the result as JSON; - for standard output, in place of the tables'),
    new Option('--markdown <file>', 'write it as Markdown; - likewise'),
    new Option('--html <file>', 'write it as one page with charts; - likewise'),
    new Option('--compare <file>', 'show what changed since a result that --json wrote'),
  ]);
  if (peers.length === 0) return;
  heading('Peers:', [
    namesOption(
      '--peers [names]',
      'those that take part (all that are installed)',
      peers.map(({ name }) => name),
    ).preset(peers.map(({ name }) => name).join(',')),
    new Option('--no-peers', 'only this package'),
    ...(installPeers ? [new Option('--install-peers', 'npm install in bench/peers first')] : []),
  ]);
}

interface Shapes {
  readonly presets: readonly PresetName[];
  /** Undefined: those of the presets. */
  readonly tokens: number | undefined;
}

/** Of presets, or the one that was asked for. */
function shapesOf({ preset, tokens, vocab, width }: BenchOptions, defaults: Shapes): LinearShape[] {
  if (vocab !== undefined) {
    if (preset) throw new UsageError('--vocab: expected without --preset, got both');
    return [{ tokens: tokens ?? defaults.tokens ?? defaultTokens, vocab, width: width ?? defaultWidth }];
  }
  if (width !== undefined) throw new UsageError('--width: expected with --vocab, got it alone');
  const asked = tokens ?? defaults.tokens;
  return (preset ?? defaults.presets).map((name) => ({
    ...PRESETS[name],
    ...(asked !== undefined && { tokens: asked }),
  }));
}

/** In the order in which they run. */
export function parseSections(given: readonly string[]): SectionName[] {
  const unknown = given.find((name) => name !== 'all' && !(sectionNames as readonly string[]).includes(name));
  if (unknown !== undefined) {
    throw new UsageError(
      `sections: expected all, or some of ${sectionNames.join(', ')}, got ${JSON.stringify(unknown)}`,
    );
  }
  if (given.length === 0) return [...defaultSections];
  return sectionNames.filter((name) => given.includes('all') || given.includes(name));
}

function backendsOf(asked: readonly BackendName[] | undefined): BackendName[] {
  if (asked) return asked.map((name) => resolveBackend(name));
  if (process.env.RLVR_BACKEND) return [resolveBackend(undefined)];
  const cuda = backends().some(({ name, available }) => name === 'cuda' && available);
  return [resolveBackend(undefined), ...(cuda ? (['cuda'] as const) : [])];
}

function lossesOf(asked: readonly string[] | undefined, own: BenchExtras['losses']): Record<string, LossFunction> {
  const all: Record<string, LossFunction> = { ...LOSSES, ...own };
  const wanted = asked ?? [...DEFAULT_LOSSES, ...Object.keys(own)];
  return Object.fromEntries(wanted.map((name) => [name, all[name]]));
}

function peersOf({ peers: asked }: BenchOptions, { peers }: BenchExtras): readonly PeerProvider[] {
  if (asked === false) return [];
  return Array.isArray(asked) ? peers.filter(({ name }) => asked.includes(name)) : peers;
}

/** Throws if options contradict each other, or ask for what is not available. */
export function settingsOf(
  sections: readonly string[],
  options: BenchOptions,
  extras: BenchExtras,
  command: string,
): BenchSettings {
  const wanted = parseSections(sections);
  const shapes = shapesOf(options, { presets: defaultPresets, tokens: undefined });
  const linearShapes = shapesOf(options, { presets: defaultLinearPresets, tokens: defaultLinearTokens });
  const dtypes = options.dtype && [...new Set(options.dtype.map(dtypeNamed))];
  // Before anything loads the addon, which reads it once.
  if (options.threads !== undefined) process.env.RLVR_THREADS = String(options.threads);
  return {
    sections: wanted,
    shapes: shapes.map(({ tokens, vocab }) => ({ tokens, vocab })),
    dtypes: dtypeNames.filter((name) => dtypes?.includes(name) ?? true),
    lossDtypes: dtypes ?? ['f32'],
    linearShapes,
    linearDtypes: dtypes ?? ['f32', 'bf16'],
    backends: backendsOf(options.backend),
    sequences: options.sequences,
    lengths: options.lengths,
    groupSize: options.groupSize,
    losses: lossesOf(options.loss, extras.losses),
    seed: options.seed,
    repeats: options.repeats,
    warmup: options.warmup,
    quiet: options.quiet,
    command,
    peers: peersOf(options, extras),
  };
}
