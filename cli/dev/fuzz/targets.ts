// Every public function of `rlvr-kernels`: from a plan to valid arguments, and how it is called with them.
import * as rlvr from '../../../lib/index.js';
import { LOSS_NAMES, LOSSES } from '../../../lib/losses/list.js';
import { parametersOf } from '../../../lib/objectives/objective.js';
import { Fields } from './data.js';
import { FUZZED_BACKEND } from './job.js';
import type { Choices, Plan } from './plan.js';

type Call = (...args: unknown[]) => unknown;

/** `sync` is the blocking twin, or the function itself where there is only that. */
export interface Target extends Omit<Choices, 'target' | 'edits'> {
  name: string;
  sync: Call;
  async?: Call;
  /** Arguments as plain data: they are copied before a call. */
  args(plan: Plan): unknown[];
  /** Passes arrays of the caller's on, which need not be finite. */
  passesOn?: boolean;
  /** What is wrong with a result, where there is no other backend to compare with. */
  check?(result: unknown, args: readonly unknown[]): string | undefined;
}

const functions = rlvr as unknown as Record<string, Call>;

const COMMON = ['backend'];
const TOKEN_LEVEL = ['temperature', 'onNonFinite'];
const CHUNKS = 'chunkBytes';

/** Fields by name, as a batch or the inputs of an op have them. */
function fieldOf(name: string, fields: Fields): unknown {
  const { tokens, sequences } = fields;
  switch (name) {
    case 'cuSeqlens':
    case 'cuGroups':
      return fields[name];
    case 'logits':
    case 'hidden':
    case 'weight':
    case 'bias':
    case 'targets':
    case 'mask':
    case 'groupOrder':
    case 'tokenCounts':
    case 'logProbs':
      return fields[name]();
    case 'oldLogProbs':
    case 'samplerLogProbs':
    case 'refLogProbs':
    case 'rolloutLogProbs':
    case 'teacherLogProbs':
      return fields.others(name);
    case 'scoreGrads':
    case 'tokenWeights':
    case 'rolloutWeights':
    case 'gradLogProbs':
    case 'gradEntropy':
    case 'logSumExp':
    case 'entropy':
      return fields.weights(name, tokens);
    case 'advantages':
      return fields.weights(name, fields.plan.seed % 2 === 0 ? sequences : tokens);
    default: // rewards, scores, sides, gradScores
      return fields.weights(name, sequences);
  }
}

export function pick(fields: Fields, names: readonly string[]): Record<string, unknown> {
  const entries = (name: string) => (name === REPLAY ? Object.entries(fields.kept()) : [[name, fieldOf(name, fields)]]);
  return Object.fromEntries(names.flatMap(entries));
}

/** Sampling replay, two fields of which neither goes without the other. */
const REPLAY = 'keptIds';

const SCALED: Partial<Record<Plan['gradient'], Plan['gradient']>> = { deferred: 'in-place', 'out deferred': 'out' };

/** For functions that do not leave a gradient's scale to the caller. */
function scaled(plan: Plan): Plan {
  return { ...plan, gradient: SCALED[plan.gradient] ?? plan.gradient };
}

/** Where the gradients of hidden states and their layer go. */
function placesOf({ gradient, batch, variant }: Plan, fields: Fields, withBias: boolean): Record<string, unknown> {
  const places: Record<string, unknown> = {};
  const padding = gradient === 'out with padding' ? 3 : 0;
  const key = variant % 2 === 0 ? 'out' : 'accumulate';
  if (gradient.startsWith('out')) {
    places.gradHidden = { [key]: fields.matrix(fields.tokens, fields.width, padding) };
    places.gradWeight = { out: fields.matrix(batch.vocab, fields.width, padding) };
    if (withBias) places.gradBias = { accumulate: new Float32Array(batch.vocab).fill(2) };
  }
  if (gradient.endsWith('deferred')) places.gradWeight = 'none';
  return places;
}

/** The plan's options, and where the gradient of `of` goes. */
function optionsOf(plan: Plan, fields: Fields, gradientOf?: Plan['batch']['from']): Record<string, unknown> {
  const options: Record<string, unknown> = Object.fromEntries(plan.options);
  if (plan.signal !== 'none') options.signal = plan.signal === 'live' ? new AbortController().signal : ABORTED;
  if (gradientOf === undefined || plan.gradient === 'default') return options;
  if (gradientOf === 'hidden') {
    const own = { ...options, ...placesOf(plan, fields, hasBias(plan)) };
    return ['none', 'new'].includes(plan.gradient) ? { ...own, gradient: plan.gradient } : own;
  }
  if (plan.gradient === 'deferred') return { ...options, gradient: { deferred: true } };
  if (!plan.gradient.startsWith('out')) return { ...options, gradient: plan.gradient };
  const padding = plan.gradient === 'out with padding' ? 3 : 0;
  const out = gradientOf === 'logits' ? fields.likeLogits(padding) : fields.floats('out', fields.tokens, () => 5);
  return { ...options, gradient: plan.gradient === 'out deferred' ? { deferred: true, out } : { out } };
}

const ABORTED = AbortSignal.abort(new Error('on purpose'));

function scoreOf({ score }: Plan): unknown {
  if (score.kind === 'logLikelihood' && score.parameters.length === 0) return score.kind;
  return { kind: score.kind, ...Object.fromEntries(score.parameters) };
}

const hasBias = ({ batch }: Plan) => batch.seed % 3 === 0;

interface OpForm {
  needs: readonly string[];
  fields?: readonly string[];
  options?: readonly string[];
  gradient?: Plan['batch']['from'];
  /** From hidden states. */
  hidden?: boolean;
  /** Adds to the inputs or options. */
  complete?(inputs: Record<string, unknown>, options: Record<string, unknown>, plan: Plan): void;
}

function op(name: string, { needs, fields = [], options = [], gradient, hidden, complete }: OpForm): Target {
  return {
    name,
    fields,
    options: [...options, ...COMMON],
    signal: true,
    sync: functions[`${name}Sync`],
    async: functions[name],
    args(plan) {
      const from = hidden ? 'hidden' : needs.includes('logits') ? 'logits' : 'logProbs';
      const drawn = new Fields({ ...plan.batch, from });
      const inputs = pick(drawn, [...needs, ...(hidden && hasBias(plan) ? ['bias'] : []), ...plan.fields]);
      const own = optionsOf(gradient === 'hidden' ? plan : scaled(plan), drawn, gradient);
      complete?.(inputs, own, plan);
      return [inputs, own];
    },
  };
}

/** What the forward pass gave, most of the time; else any numbers. */
function fromForward(inputs: Record<string, unknown>, options: Record<string, unknown>, { variant }: Plan): void {
  if (variant % 8 === 0) return;
  try {
    const given = { entropy: true, onNonFinite: 'skip', backend: 'reference' } as const;
    const forward = 'hidden' in inputs ? rlvr.linearLogProbsSync : rlvr.tokenLogProbsSync;
    const { logSumExp, entropy } = forward(inputs as never, { ...given, temperature: options.temperature as number });
    Object.assign(inputs, { logSumExp });
    if ('entropy' in inputs) inputs.entropy = entropy;
  } catch {
    // Then there is nothing that would fit.
  }
}

const OPS: Target[] = [
  op('tokenLogProbs', {
    needs: ['logits', 'targets'],
    fields: ['mask', REPLAY],
    options: [...TOKEN_LEVEL, 'entropy'],
  }),
  op('tokenLogProbsBackward', {
    needs: ['logits', 'targets', 'logSumExp', 'gradLogProbs'],
    fields: ['mask', 'entropy', 'gradEntropy', REPLAY],
    options: ['temperature'],
    gradient: 'logits',
    complete: fromForward,
  }),
  op('sampleTokens', {
    needs: ['logits'],
    options: ['temperature', 'topK', 'topP', 'minP', 'seed', 'offset', 'kept'],
    complete(inputs, options, { batch, variant }) {
      inputs.vocab = batch.vocab;
      options.seed ??= variant;
    },
  }),
  op('linearLogProbs', {
    needs: ['hidden', 'weight', 'targets'],
    fields: ['mask'],
    options: [...TOKEN_LEVEL, 'entropy'],
    hidden: true,
  }),
  op('linearLogProbsBackward', {
    needs: ['hidden', 'weight', 'targets', 'logSumExp', 'gradLogProbs'],
    fields: ['mask', 'entropy', 'gradEntropy'],
    options: ['temperature'],
    hidden: true,
    gradient: 'hidden',
    complete(inputs, options, plan) {
      delete options.gradient; // three places are all that it has
      fromForward(inputs, options, plan);
    },
  }),
  op('sequenceLogProbs', { needs: ['logProbs', 'cuSeqlens'], fields: ['mask'] }),
  op('sequenceLogProbsBackward', {
    needs: ['gradScores', 'tokenCounts', 'cuSeqlens'],
    fields: ['mask'],
    gradient: 'logProbs',
  }),
  op('ratioScores', {
    needs: ['logProbs', 'cuSeqlens'],
    fields: ['oldLogProbs', 'mask', 'sides', 'tokenWeights', 'samplerLogProbs'],
    complete(_inputs, options, plan) {
      if (plan.variant % 8 !== 0) options.score = scoreOf(plan);
    },
  }),
  op('ratioScoresBackward', { needs: ['gradScores', 'scoreGrads', 'cuSeqlens'], gradient: 'logProbs' }),
  op('groupInfoNCE', {
    needs: ['scores', 'rewards', 'cuGroups'],
    fields: ['tokenCounts', 'groupOrder'],
    options: ['tau', 'margin', 'positiveThreshold', 'normalizer'],
  }),
  op('advantageObjective', {
    needs: ['scores', 'advantages', 'tokenCounts'],
    options: ['aggregation', 'maxLength', 'normalizer'],
    complete(inputs) {
      inputs.advantages = inputs.scores;
    },
  }),
];

const BATCH_FIELDS = ['mask', 'oldLogProbs', 'rolloutLogProbs', 'groupOrder', REPLAY];
const POLICY_FIELDS = [
  ...BATCH_FIELDS,
  ...['refLogProbs', 'advantages', 'teacherLogProbs', 'tokenWeights', 'rolloutWeights'],
];
const LOSS_OPTIONS = [...TOKEN_LEVEL, CHUNKS, 'positiveThreshold', 'logProbs', 'entropy', 'expectOnPolicy', ...COMMON];

const SOURCES = {
  logits: ['logits', 'targets'],
  hidden: ['hidden', 'weight', 'targets'],
  logProbs: ['logProbs'],
} as const;

/** The inputs of a loss, from logits, hidden states or log-probs. */
function batchOf(plan: Plan, more: readonly string[]): { batch: Record<string, unknown>; fields: Fields } {
  const fields = new Fields(plan.batch);
  const { from } = plan.batch;
  const own = [...SOURCES[from], ...(from === 'hidden' && hasBias(plan) ? ['bias'] : [])];
  const others = from === 'logits' ? plan.fields : plan.fields.filter((name) => name !== REPLAY);
  return { batch: pick(fields, [...own, 'cuSeqlens', ...more, ...others]), fields };
}

const LOSS_TARGETS: Target[] = LOSS_NAMES.map((name) => {
  const { parameters } = LOSSES[name];
  return {
    name,
    fields: 'advantage' in parameters ? POLICY_FIELDS : BATCH_FIELDS,
    options: [...Object.keys(parameters), ...LOSS_OPTIONS],
    signal: true,
    sync: functions[`${name}Sync`],
    async: functions[name],
    args(plan) {
      const { batch, fields } = batchOf(plan, ['rewards', 'cuGroups']);
      const options = optionsOf(plan, fields, plan.batch.from);
      return [batch, name === 'drGrpo' ? { maxLength: 16, ...options } : options];
    },
  };
});

interface Scored {
  scores: Float64Array;
  backward(gradScores: unknown, options?: unknown): unknown;
}

const FORWARD: Target = {
  name: 'forward',
  fields: ['mask', 'oldLogProbs', 'rolloutLogProbs'],
  options: [...TOKEN_LEVEL, CHUNKS, 'entropy', ...COMMON],
  sync(batch, score, options, gradScores, own) {
    const { backward, ...result } = functions.forwardSync(batch, score, options) as Scored;
    return { ...result, first: backward(gradScores), ...(backward(gradScores, own) as object) };
  },
  async async(batch, score, options, gradScores, own) {
    const { backward, ...result } = (await functions.forward(batch, score, options)) as Scored;
    const again = async (...args: [unknown, unknown?]) => {
      process.env.RLVR_BACKEND = FUZZED_BACKEND; // others have run meanwhile
      return await backward(...args);
    };
    return { ...result, first: await again(gradScores), ...((await again(gradScores, own)) as object) };
  },
  args(plan) {
    const { batch, fields } = batchOf(plan, []);
    const own = optionsOf({ ...scaled(plan), options: [], signal: 'none' }, fields, plan.batch.from);
    const options = Object.fromEntries(plan.options);
    if (plan.variant % 3 === 0) options.sides = fields.weights('sides', fields.sequences);
    const gradScores = fields.weights('gradScores', fields.sequences);
    return [batch, scoreOf(plan), options, gradScores, own];
  },
};

/** Objectives in a user's words: what comes back from the last ones is refused, or the user's own error. */
const USERS_OBJECTIVES: ((batch: rlvr.ScoredBatch) => unknown)[] = [
  ({ scores, rewards }) => ({ loss: scores.reduce((sum, s) => sum + s, 0), gradScores: rewards.map((r) => r / 2) }),
  ({ scores, cuGroups }) => ({ loss: 1, gradScores: scores, groupLosses: new Float64Array(cuGroups.length - 1) }),
  ({ scores }) => ({ loss: Number.NaN, gradScores: scores }),
  ({ scores }) => ({ loss: 0, gradScores: scores.map(() => Number.NaN) }),
  () => ({ loss: 0, gradScores: [] }),
  () => undefined,
  () => ({ loss: 7n, gradScores: new Float32Array(3) }),
  ({ scores }) => ({ loss: 0, gradScores: scores, groupLosses: new Float64Array(1000) }),
];

const OBJECTIVES: unknown[] = [
  rlvr.infoNCE,
  rlvr.advantageWeighted,
  rlvr.discriminative,
  rlvr.discoObjective,
  ...USERS_OBJECTIVES.map((evaluate) => rlvr.scoreObjective(evaluate as never)),
];

const DEFINED: Target = {
  name: 'defineLoss',
  fields: POLICY_FIELDS,
  options: [...Object.keys(LOSSES.grpo.parameters), 'tau', 'margin', ...LOSS_OPTIONS],
  signal: true,
  sync: (recipe, batch, options) => (functions.defineLoss(recipe) as { runSync: Call }).runSync(batch, options),
  // Async functions of the package reject; defineLoss itself throws.
  async: async (recipe, batch, options) => (functions.defineLoss(recipe) as { run: Call }).run(batch, options),
  args(plan) {
    const { batch, fields } = batchOf(plan, ['rewards', 'cuGroups']);
    const score = scoreOf(plan);
    const recipe = {
      score: plan.variant % 5 === 0 ? () => score : score,
      objective: OBJECTIVES[plan.variant % OBJECTIVES.length],
      ...(plan.variant % 4 === 0 && { defaults: { tau: 0.5, klCoef: 0 } }),
      ...(plan.variant % 7 === 0 && { parameters: ['tau', 'margin', 'normalizer'] }),
    };
    const known = plan.variant % 9 === 0 ? undefined : parametersOf(recipe.objective as object);
    const own = plan.options.filter(([name]) => known === undefined || name in known || LOSS_OPTIONS.includes(name));
    return [recipe, batch, optionsOf({ ...plan, options: own }, fields, plan.batch.from)];
  },
};

export const BACKEND_TARGETS: readonly Target[] = [...OPS, ...LOSS_TARGETS, FORWARD, DEFINED, FORWARD, DEFINED];
