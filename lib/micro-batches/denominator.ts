// What a loss divides by, of a whole batch: the normalizer of its parts (spec section 4).
import { badArgument, describe } from '../errors.js';
import { countTokens } from '../groups.js';
import { LOSSES, type LossName } from '../losses/list.js';
import type { AdvantageParameters } from '../objectives/advantage-weighted.js';
import { atOnce, total } from '../slices.js';
import { finiteNumber, oneOf } from '../validate.js';

/** The counts of a batch that denominators are made of. */
export interface Counts {
  sequences: number;
  tokens: number; // unmasked
  groups: number | undefined; // without cuGroups
}

/** Options of a loss, as far as they decide on its denominators. */
export type DenominatorOptions = Partial<AdvantageParameters> & { form?: unknown; klConstraint?: unknown };

/** Options of the parts' losses: the denominators of the whole batch. */
export interface Denominators {
  /** Of the loss. */
  normalizer: number;
  /** Of an entropy bonus that is a mean over tokens. */
  entropyNormalizer?: number;
}

/** Those of a batch. */
export function countsOf(cuSeqlens: Int32Array, mask: Uint8Array | undefined, groups: number | undefined): Counts {
  const tokens = atOnce(total(atOnce(countTokens(cuSeqlens, mask))));
  return { sequences: cuSeqlens.length - 1, tokens, groups };
}

/** The denominators of a loss of this name with these options, which must be one that adds up. */
export function denominators(loss: LossName, given: DenominatorOptions, counts: Counts): Denominators {
  const options = { ...LOSSES[loss].defaults, ...defined(given) } as DenominatorOptions;
  for (const name of ['normalizer', 'entropyNormalizer'] as const) {
    if (options[name] !== undefined)
      throw badArgument(
        'ERR_RANGE',
        `options.${name}`,
        'none: the parts get that of the batch',
        describe(options[name]),
      );
  }
  refuseWholeBatch(options);
  const overGroups = !('advantage' in LOSSES[loss].parameters) || options.form === 'discriminative';
  if (overGroups) return { normalizer: orOne(groupsOf(counts)) };
  const { sequences, tokens } = counts;
  const aggregation = oneOf('options.aggregation', options.aggregation ?? 'sequence-mean', [
    'sequence-mean',
    'token-mean',
    'constant-length',
  ]);
  const byTokens = options.entropyAggregation === 'token-mean';
  if (options.rolloutCorrection?.reject !== undefined && (byTokens || aggregation === 'token-mean'))
    throw wholeBatch('rolloutCorrection.reject', options.rolloutCorrection.reject);
  const normalizer = {
    'sequence-mean': () => sequences,
    'token-mean': () => tokens,
    'constant-length': () => sequences * finiteNumber('options.maxLength', options.maxLength, { above: 0 }),
  }[aggregation]();
  return { normalizer: orOne(normalizer), ...(byTokens && { entropyNormalizer: orOne(tokens) }) };
}

/** A denominator of nothing: the loss is 0 whatever it is divided by. */
const orOne = (count: number) => count || 1;

const defined = (options: object) =>
  Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));

function groupsOf({ groups }: Counts): number {
  if (groups !== undefined) return groups;
  throw badArgument('ERR_DTYPE', 'cuGroups', 'Int32Array, for a loss of groups', 'undefined');
}

const WHOLE_BATCH_ESTIMATORS: ReadonlySet<unknown> = new Set([
  'gpg',
  'gdpo',
  'reinforcePlusPlus',
  'reinforcePlusPlusBaseline',
]);

/** Refuses options that look at the whole batch: the losses of parts do not add up to its loss. */
function refuseWholeBatch(options: DenominatorOptions): void {
  const { advantage, rolloutCorrection } = options;
  if (WHOLE_BATCH_ESTIMATORS.has(advantage?.estimator)) throw wholeBatch('advantage.estimator', advantage?.estimator);
  if (advantage?.scale === 'batch') throw wholeBatch('advantage.scale', 'batch');
  if (rolloutCorrection?.normalize === true) throw wholeBatch('rolloutCorrection.normalize', true);
  for (const name of ['entropyQuantile', 'clipCov', 'klCov', 'klConstraint'] as const) {
    if (options[name] !== undefined) throw wholeBatch(name, options[name]);
  }
}

function wholeBatch(name: string, got: unknown) {
  return badArgument('ERR_RANGE', `options.${name}`, 'none, since it looks at the whole batch', describe(got));
}
