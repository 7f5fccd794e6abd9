// Reads options and batch fields by name, each once, and refuses unknown names: a misspelt one would silently change nothing.
import { badArgument, describe, isRevoked, listed, RlvrError, shortened } from './errors.js';
import { replaceLists } from './number-lists.js';
import { objectArgument } from './validate.js';

/** Names that an options object may have; for an option that is an object, the names in it. */
export interface OptionNames {
  readonly [name: string]: true | OptionNames;
}

/** The names of an options type, all of them and no others. */
export type NamesOf<T> = { readonly [K in keyof Required<T>]: true | OptionNames };

/** The given names, once the compiler has checked that they are complete. */
export function namesOf<T>(names: NamesOf<T>): NamesOf<T> {
  return names;
}

/**
 * Names in TRL 1.13 and verl 1dda039, without case and underscores, and their equivalents here. Of several, those that
 * the loss has are meant.
 */
const OPTIONS_ELSEWHERE: Readonly<Record<string, readonly string[]>> = {
  beta: ['klCoef'],
  cliprange: ['epsilonLow', 'epsilonHigh'],
  clipcovlb: ['clipCov.low'],
  clipcovratio: ['clipCov.ratio'],
  clipcovub: ['clipCov.high'],
  clipratio: ['epsilonLow', 'epsilonHigh'],
  clipratioc: ['dualClip'],
  clipratiohigh: ['epsilonHigh', 'ratioMax'],
  clipratiolow: ['epsilonLow', 'ratioMin'],
  epsilon: ['epsilonLow', 'epsilonHigh'],
  epsilonhigh: ['epsilonHigh', 'ratioMax'],
  epsilonlow: ['epsilonLow', 'ratioMin'],
  advestimator: ['advantage.estimator'],
  klcovratio: ['klCov.ratio'],
  kllosscoef: ['klCoef'],
  kllosstype: ['klEstimator'],
  klpenalty: ['klEstimator'],
  lossaggmode: ['aggregation'],
  lossscalefactor: ['maxLength'],
  losstype: ['aggregation'],
  maxcompletionlength: ['maxLength'],
  maxresponselength: ['maxLength'],
  normadvbystdingrpo: ['advantage.estimator'],
  ppoklcoef: ['klCov.coef'],
  rewardweights: ['advantage.weights', 'weights'],
  rolloutis: ['rolloutCorrection.level'],
  rolloutisbatchnormalize: ['rolloutCorrection.normalize'],
  rolloutisthreshold: ['rolloutCorrection.max'],
  rolloutrs: ['rolloutCorrection.reject'],
  rolloutrsthreshold: ['rolloutCorrection.reject.max'],
  sapotemperatureneg: ['tauNeg'],
  sapotemperaturepos: ['tauPos'],
  scalerewards: ['advantage.scale', 'scale'],
  offpolicymaskthreshold: ['offPolicyMask.delta'],
  usebiascorrectionkl: ['klWeight'],
  tisimpratiocap: ['rolloutCorrection.max'],
  topentropyquantile: ['entropyQuantile'],
  vllmimportancesamplingcap: ['rolloutCorrection.max'],
  vllmimportancesamplingcorrection: ['rolloutCorrection'],
};

/** Every field of a batch that some loss reads. */
const BATCH_FIELDS = [
  'logits',
  'hidden',
  'weight',
  'bias',
  'targets',
  'keptIds',
  'cuKept',
  'logProbs',
  'cuSeqlens',
  'cuGroups',
  'groupOrder',
  'groupIds',
  'mask',
  'rewards',
  'advantages',
  'oldLogProbs',
  'refLogProbs',
  'rolloutLogProbs',
  'rolloutWeights',
  'teacherLogProbs',
  'tokenWeights',
] as const;

/** Those, and the inputs of every op. */
const FIELDS = [
  ...BATCH_FIELDS,
  'scores',
  'tokenCounts',
  'gradScores',
  'scoreGrads',
  'sides',
  'samplerLogProbs',
  'logSumExp',
  'gradLogProbs',
  'entropy',
  'gradEntropy',
  'vocab',
] as const;

const fieldNames: ReadonlySet<string> = new Set(FIELDS);

/** As {@link OPTIONS_ELSEWHERE}, for batch fields. */
const FIELDS_ELSEWHERE: Readonly<Record<string, readonly string[]>> = {
  completionmask: ['mask'],
  logps: ['logProbs'],
  lossmask: ['mask'],
  oldpertokenlogps: ['oldLogProbs'],
  pertokenlogps: ['logProbs'],
  refpertokenlogps: ['refLogProbs'],
  responsemask: ['mask'],
  samplinglogprobs: ['rolloutLogProbs'],
  samplingpertokenlogps: ['rolloutLogProbs'],
  rolloutisweights: ['rolloutWeights'],
  teacherlogps: ['teacherLogProbs'],
};

/** What has been read of an object, each name once. */
export type Taken = Record<string, unknown>;

/**
 * Options by name, each read once: own, inherited, or a getter's. Refuses every other one that is there and not undefined,
 * nested ones too.
 *
 * @throws RlvrError `ERR_OPTION` naming the option, and the likely meaning.
 */
export function takeOptions(of: string, options: object, names: OptionNames): Taken {
  return take(options, names, '', (path) => {
    throw unknownOption(of, path, names);
  });
}

/**
 * As {@link takeOptions}, for an op, whose options may come in one object with those of others, and for a loss with
 * parameters that only its author knows: refuses what looks like one of `names` misspelt, and takes the rest too.
 */
export function takeSpelledOptions(of: string, options: object, names: OptionNames): Taken {
  return take(options, names, '', (path, siblings) => {
    if (likely(path, Object.keys(siblings), {}).length > 0) throw unknownOption(of, path, names);
  });
}

/** `found` is called with the path of each option that is not among the names, and with the names beside it. */
function take(
  options: object,
  names: OptionNames,
  path: string,
  found: (path: string, siblings: OptionNames) => void,
): Taken {
  const source = options as Taken;
  const taken: Taken = {};
  for (const name in names) {
    const value = source[name];
    if (value === undefined && (path === '' || !(name in source))) continue; // `{ out: undefined }` is a mistake of its own
    const within = names[name];
    if (isRevoked(value)) throw badArgument('ERR_DTYPE', `${path}${name}`, 'a value', describe(value));
    taken[name] = within !== true && isRecord(value) ? take(value, within, `${path}${name}.`, found) : value;
  }
  for (const name in source) {
    if (Object.hasOwn(names, name)) continue;
    const value = source[name];
    if (value === undefined) continue;
    found(`${path}${name}`, names);
    if (isRevoked(value)) throw badArgument('ERR_DTYPE', shortened(`${path}${name}`, 60), 'a value', describe(value));
    if (name !== '__proto__') taken[name] = value; // JSON.parse makes such a property; assigned, it would be a prototype
  }
  return taken;
}

function isRecord(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !ArrayBuffer.isView(value);
}

function unknownOption(of: string, name: string, names: OptionNames): RlvrError {
  const meant = likely(name, paths(names), OPTIONS_ELSEWHERE);
  const advice = meant.length > 0 ? `did you mean ${meant.join(' and ')}?` : `it has ${listed(Object.keys(names))}`;
  return new RlvrError('ERR_OPTION', `${shortened(name, 60)}: no such option of ${of}; ${advice}`);
}

/** Names with those nested in them: `advantage`, `advantage.estimator`. */
function paths(names: OptionNames): string[] {
  return Object.entries(names).flatMap(([name, within]) =>
    within === true ? [name] : [name, ...paths(within).map((path) => `${name}.${path}`)],
  );
}

/** Unknown fields, and the field that each resembles, if any: a trainer's batches have the same fields every time. */
const resemblances = new Map<string, string | undefined>();
const MOST_RESEMBLANCES = 256;
const LONGEST_RESEMBLANCE = 64; // characters

/**
 * The fields of a batch, or of an op's inputs, by name, each read once. A batch may carry fields of the trainer's own, which
 * are left where they are. Refuses those with data under a name that resembles one of ours, unless ours is there too. Plain arrays,
 * where there may be such, come as typed ones.
 *
 * @throws RlvrError `ERR_DTYPE` for what is no object, and, as `ERR_RANGE`, for what a plain array may not hold; `ERR_OPTION` naming the field, and the likely meaning.
 */
export function takeFields<F extends object>(argument: string, fields: F): F {
  const source = objectArgument(argument, fields) as Taken;
  const taken: Taken = {};
  for (const name of FIELDS) {
    const value = source[name];
    if (isRevoked(value)) throw badArgument('ERR_DTYPE', name, 'an array or a tensor', describe(value));
    if (value !== undefined) taken[name] = value;
  }
  for (const name in source) {
    if (fieldNames.has(name)) continue;
    const meant = resembled(name);
    if (meant === undefined || taken[meant] !== undefined || !isData(source[name])) continue;
    throw new RlvrError('ERR_OPTION', `${shortened(name, 60)}: no such field of a batch; did you mean ${meant}?`);
  }
  replaceLists(taken);
  return taken as F;
}

/** Fields of ours are arrays and tensors. */
function isData(value: unknown): boolean {
  return typeof value === 'object' && value !== null;
}

function resembled(name: string): string | undefined {
  if (resemblances.has(name)) return resemblances.get(name);
  const [meant] = likely(name, BATCH_FIELDS, FIELDS_ELSEWHERE);
  if (resemblances.size < MOST_RESEMBLANCES && name.length <= LONGEST_RESEMBLANCE) resemblances.set(name, meant);
  return meant;
}

const plain = (name: string) => name.replaceAll(/[_-]/g, '').toLowerCase();
const lastPart = (path: string) => path.slice(path.lastIndexOf('.') + 1);

/** Which of `known`, which may be nested, `name` stands for: by another project's name, by spelling, or by a typo or two. */
function likely(
  name: string,
  known: readonly string[],
  elsewhere: Readonly<Record<string, readonly string[]>>,
): readonly string[] {
  const given = plain(lastPart(name));
  const theirs = Object.hasOwn(elsewhere, given) ? elsewhere[given].filter((one) => known.includes(one)) : [];
  if (theirs.length > 0) return theirs;
  const same = known.find((one) => plain(lastPart(one)) === given);
  if (same !== undefined) return [same];
  const distances = known.map((one) => ({ one, distance: typos(given, plain(lastPart(one))) }));
  const [nearest] = distances.sort((a, b) => a.distance - b.distance);
  return nearest && nearest.distance <= 2 ? [nearest.one] : [];
}

/**
 * Letters added, left out, replaced, or swapped with their neighbour, between two names (optimal string alignment).
 * Infinity beyond what a slip explains: two, or one where the first letter differs or a name is short, or none where both do.
 */
function typos(a: string, b: string): number {
  if (Math.abs(a.length - b.length) > 2) return Infinity;
  const rows = Array.from({ length: a.length + 1 }, (_, i) => [i, ...new Array<number>(b.length).fill(0)]);
  for (let j = 0; j <= b.length; j++) rows[0][j] = j;
  for (let i = 1; i <= a.length; i++) {
    for (let j = 1; j <= b.length; j++) {
      const replaced = rows[i - 1][j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      rows[i][j] = Math.min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, replaced);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (swapped) rows[i][j] = Math.min(rows[i][j], rows[i - 2][j - 2] + 1);
    }
  }
  const distance = rows[a.length][b.length];
  const sameStart = a[0] === b[0];
  const short = Math.min(a.length, b.length) <= 4;
  const most = short ? (sameStart ? 1 : 0) : sameStart ? 2 : 1;
  return distance <= most ? distance : Infinity;
}
