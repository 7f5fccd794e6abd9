// An oracle that shares nothing with lib/: every loss as its authors publish it, token by token, on scalars that record
// their own derivatives. It knows no scores, no objectives and no hand-written gradient.

import { Scalar } from './scalar.js';

const ONE = new Scalar(1);
const sum = (terms: readonly Scalar[]) => terms.reduce((total, term) => total.plus(term), new Scalar(0));
const mean = (terms: readonly Scalar[]) => sum(terms).times(1 / Math.max(terms.length, 1));

type Numbers = ArrayLike<number>;

export interface OracleBatch {
  logits?: Numbers | undefined;
  targets?: Numbers | undefined;
  logProbs?: Numbers | undefined;
  oldLogProbs?: Numbers | undefined;
  refLogProbs?: Numbers | undefined;
  rolloutLogProbs?: Numbers | undefined;
  advantages?: Numbers | undefined;
  cuSeqlens: Numbers;
  cuGroups: Numbers;
  mask: Numbers;
  rewards: Numbers;
}

/** The losses of the policy-gradient family; `reinforce` is the weighted log-likelihood. */
export type Family = 'clipped' | 'gspo' | 'gmpo' | 'cispo' | 'dppo' | 'vespo' | 'sapo' | 'reinforce';

export interface OracleOptions {
  epsilonLow?: number | undefined;
  epsilonHigh?: number | undefined;
  dualClip?: number | undefined;
  delta?: number | undefined;
  ratioLevel?: string | undefined;
  ratioMin?: number | undefined;
  ratioMax?: number | undefined;
  divergence?: string | undefined;
  kPos?: number | undefined;
  kNeg?: number | undefined;
  lambdaPos?: number | undefined;
  lambdaNeg?: number | undefined;
  tauPos?: number | undefined;
  tauNeg?: number | undefined;
  aggregation?: string | undefined;
  maxLength?: number | undefined;
  advantage?: { estimator?: string; ddof?: number; eps?: number } | undefined;
  klCoef?: number | undefined;
  klEstimator?: string | undefined;
  klReference?: string | undefined;
  klMax?: number | undefined;
  klWeight?: string | undefined;
  entropyCoef?: number | undefined;
  rolloutCorrection?: { level?: string; mode?: string; min?: number; max?: number } | undefined;
}

interface Token {
  t: number; // its place in the batch
  logProb: Scalar;
  old: number; // old log-prob
  logRatio: Scalar; // clamped to +-20
  entropy: Scalar;
}

interface OracleResult {
  loss: number;
  /** By the logits, or by the log-probs. */
  gradient: Float64Array;
}

/** The unmasked tokens of every sequence, and the leaves that they hang on. */
function tokensOf(batch: OracleBatch): { sequences: Token[][]; leaves: Scalar[] } {
  const { cuSeqlens, mask, targets, oldLogProbs } = batch;
  const leaves = Array.from(batch.logProbs ?? batch.logits!, (value) => new Scalar(value));
  const vocab = targets ? leaves.length / Math.max(targets.length, 1) : 0;
  const sequences = Array.from({ length: cuSeqlens.length - 1 }, (_, i) => {
    const tokens: Token[] = [];
    for (let t = cuSeqlens[i]; t < cuSeqlens[i + 1]; t++) {
      if (mask[t] === 0) continue;
      const row = targets ? leaves.slice(t * vocab, (t + 1) * vocab) : [];
      const total = sum(row.map((z) => z.exp())).log();
      const logProb = targets ? row[targets[t]].minus(total) : leaves[t];
      const entropy = sum(row.map((z) => z.minus(total).exp().times(z.minus(total)))).times(-1);
      const old = oldLogProbs ? new Scalar(oldLogProbs[t]) : logProb.stop();
      tokens.push({ t, logProb, old: old.value, logRatio: logProb.minus(old).clip(-20, 20), entropy });
    }
    return tokens;
  });
  return { sequences, leaves };
}

function finish(loss: Scalar, leaves: Scalar[]): OracleResult {
  loss.backward();
  return { loss: loss.value, gradient: Float64Array.from(leaves, ({ gradient }) => gradient) };
}

/** Advantages from the rewards of each group. */
export function oracleAdvantages(batch: OracleBatch, { estimator = 'grpo', ddof = 1, eps = 1e-4 } = {}): number[] {
  const { cuGroups, cuSeqlens, mask, rewards } = batch;
  const out = new Array<number>(rewards.length).fill(0);
  for (let g = 0; g + 1 < cuGroups.length; g++) {
    const members = Array.from({ length: cuGroups[g + 1] - cuGroups[g] }, (_, k) => cuGroups[g] + k);
    if (new Set(members.map((i) => rewards[i])).size < 2) continue;
    const n = members.length;
    const mu = members.reduce((total, i) => total + rewards[i], 0) / n;
    const std = Math.sqrt(members.reduce((total, i) => total + (rewards[i] - mu) ** 2, 0) / (n - ddof));
    const length = (i: number) => {
      let count = 0;
      for (let t = cuSeqlens[i]; t < cuSeqlens[i + 1]; t++) count += mask[t];
      return count;
    };
    const lengths = members.reduce((total, i) => total + length(i), 0);
    const baseline = members.reduce((total, i) => total + length(i) * rewards[i], 0) / Math.max(lengths, 1);
    const others = (i: number) => members.reduce((total, j) => total + (j === i ? 0 : rewards[j]), 0) / (n - 1);
    for (const i of members) {
      if (estimator === 'grpo') out[i] = (rewards[i] - mu) / (std + eps);
      if (estimator === 'drGrpo') out[i] = rewards[i] - mu;
      if (estimator === 'rloo') out[i] = rewards[i] - others(i); // leave one out
      if (estimator === 'opo') out[i] = rewards[i] - baseline;
    }
  }
  return out;
}

/** TRL's and verl's clipped surrogate of one ratio. */
function surrogate(ratio: Scalar, A: number, options: OracleOptions): Scalar {
  const { epsilonLow = 0.2, epsilonHigh = 0.2, dualClip, delta } = options;
  const first = delta === undefined ? ratio : ratio.min(new Scalar(delta)); // TRL: coef_1 = clamp(coef_1, max=delta)
  const second = ratio.clip(1 - epsilonLow, 1 + epsilonHigh);
  const loss = first.times(A).min(second.times(A)).times(-1);
  return dualClip !== undefined && A < 0 ? loss.min(new Scalar(-A * dualClip)) : loss; // verl: pg_losses3
}

/** GMPO as in its authors' code: a sign trick clips each log-ratio on one side. */
function geometric(
  tokens: readonly Token[],
  A: number,
  { epsilonLow = 0.4, epsilonHigh = 0.4 }: OracleOptions,
): Scalar {
  const sign = Math.sign(A);
  const clipped = tokens.map(({ logRatio: d }) =>
    d.times(sign).min(d.clip(-epsilonLow, epsilonHigh).times(sign)).times(sign),
  );
  return mean(clipped).exp().times(-A);
}

/** Whether a token is inside DPPO's trust region. */
function trusted({ logProb, old }: Token, A: number, o: OracleOptions): boolean {
  const most = o.divergence === 'kl' ? 0 : Infinity;
  const [p, q] = [logProb.value, old].map((given) => Math.exp(Math.min(given, most)));
  const part = (a: number, b: number) => (a === 0 ? 0 : a * Math.log(a / b));
  const moved = o.divergence === 'kl' ? Math.sign(p - q) * (part(q, p) + part(1 - q, 1 - p)) : p - q;
  return A > 0 ? moved <= (o.epsilonHigh ?? 0.2) : moved >= -(o.epsilonLow ?? 0.2);
}

/** TRL's `get_gamma_weights`. */
function gammaWeight(
  logW: number,
  A: number,
  { kPos = 2, lambdaPos = 3, kNeg = 3, lambdaNeg = 2 }: OracleOptions,
): number {
  const [k, lambda] = A >= 0 ? [kPos, lambdaPos] : [kNeg, lambdaNeg];
  const log = Math.min(Math.max(logW, Math.log(1e-8)), 20);
  return Math.exp(lambda + k * log - lambda * Math.exp(log));
}

/** The policy loss of every token of a sequence, A per token. `rollout`: the sum of old less rollout log-probs. */
function policyLosses(
  family: Family,
  tokens: Token[],
  A: number[],
  tokenForm: boolean,
  rollout: number,
  o: OracleOptions,
): Scalar[] {
  const logS = mean(tokens.map(({ logRatio }) => logRatio));
  const logW = rollout + sum(tokens.map(({ logRatio }) => logRatio)).value;
  const ofLevel = (own: Scalar) => {
    if (o.ratioLevel === 'sum') return sum(tokens.map(({ logRatio }) => logRatio)).clip(-20, 20);
    if (o.ratioLevel !== 'sequence') return own;
    return tokenForm ? own.minus(own.stop()).plus(logS.stop()) : logS;
  };
  return tokens.map((token, k) => {
    const { logProb } = token;
    const logRatio = ofLevel(token.logRatio);
    switch (family) {
      case 'clipped':
        return surrogate(logRatio.exp(), A[k], o);
      case 'gspo': {
        const own = logRatio.minus(logRatio.stop()).plus(logS.stop()); // arXiv 2507.18071, eq. 14
        return surrogate((tokenForm ? own : logS).exp(), A[k], { epsilonLow: 3e-4, epsilonHigh: 4e-4, ...o });
      }
      case 'gmpo':
        return geometric(tokens, A[0], o);
      case 'cispo':
        return logProb
          .times(
            logRatio
              .exp()
              .clip(o.ratioMin ?? 0, o.ratioMax ?? 5)
              .stop(),
          )
          .times(-A[k]);
      case 'dppo': {
        const weight = trusted(token, A[k], o) ? Math.min(Math.exp(logRatio.value), o.ratioMax ?? 20) : 0;
        return logProb.times(-A[k] * weight);
      }
      case 'vespo':
        return logProb.times(-A[k] * gammaWeight(logW, A[k], o));
      case 'sapo': {
        const tau = A[k] > 0 ? (o.tauPos ?? 1) : (o.tauNeg ?? 1.05);
        return logRatio
          .exp()
          .minus(ONE)
          .times(tau)
          .sigmoid()
          .times((-4 * A[k]) / tau);
      }
      default: // reinforce
        return logProb.times(-A[k]);
    }
  });
}

const clamp20 = (x: number) => Math.min(Math.max(x, -20), 20);

/** The rollout weights of a sequence's tokens. */
function rolloutWeights(batch: OracleBatch, tokens: Token[], { rolloutCorrection }: OracleOptions): number[] {
  if (!rolloutCorrection) return tokens.map(() => 1);
  const { level = 'token', mode = 'truncate', min = 0, max = 2 } = rolloutCorrection;
  const gaps = tokens.map(({ t, logProb }) => (batch.oldLogProbs?.[t] ?? logProb.value) - batch.rolloutLogProbs![t]);
  const total = gaps.reduce((all, gap) => all + gap, 0);
  return gaps.map((gap) => {
    const rho = Math.exp(clamp20(level === 'token' ? gap : total));
    if (mode === 'mask') return rho < min || rho > max ? 0 : rho;
    return Math.min(Math.max(rho, min), max);
  });
}

/** verl's `kl_penalty`, and TRL's multiplication by the ratio. */
function klOf(token: Token, ratio: Scalar, batch: OracleBatch, options: OracleOptions): Scalar {
  const { klEstimator = 'k3', klReference = 'ref', klMax = Infinity, klWeight } = options;
  const { t, logProb } = token;
  const given = klReference === 'ref' ? batch.refLogProbs : batch.oldLogProbs;
  const d = (given ? new Scalar(given[t]) : logProb.stop()).minus(logProb).clip(-20, 20);
  const values: Record<string, Scalar> = {
    k1: d.times(-1),
    k2: d.times(d).times(0.5),
    k3: d.exp().minus(d).minus(ONE),
    abs: d.times(Math.sign(d.value)),
  };
  const capped = values[klEstimator.replace('+', '')].min(new Scalar(klMax));
  const estimate = klEstimator.endsWith('+') ? values.k2.minus(values.k2.stop()).plus(capped.stop()) : capped;
  return klWeight === 'ratio' ? estimate.times(ratio) : estimate;
}

/** -sum_i w_i A_i s_i and its additions, as trainers write them: a loss per token, then an aggregation. */
export function policyOracle(batch: OracleBatch, family: Family, options: OracleOptions): OracleResult {
  const { sequences, leaves } = tokensOf(batch);
  const { aggregation = 'sequence-mean', maxLength = 1, klCoef = 0, entropyCoef = 0 } = options;
  const A = batch.advantages ?? oracleAdvantages(batch, options.advantage);
  const perToken = A.length !== sequences.length;
  const correction = options.rolloutCorrection;
  const tokenForm = perToken || (correction !== undefined && (correction.level ?? 'token') === 'token');
  const losses = sequences.map((tokens, i) => {
    const own = tokens.map(({ t }) => A[perToken ? t : i]);
    const corrected = family === 'vespo' ? { ...options, rolloutCorrection: undefined } : options;
    const rho = rolloutWeights(batch, tokens, corrected);
    const rollout = tokens.reduce((all, { t, old }) => all + clamp20(old - (batch.rolloutLogProbs?.[t] ?? old)), 0);
    const logRatios = tokens.map(({ logRatio }) => logRatio);
    const whole = options.ratioLevel === 'sum' ? sum(logRatios).clip(-20, 20).exp() : mean(logRatios).exp();
    const onWhole = family === 'gspo' || family === 'gmpo' || (options.ratioLevel ?? 'token') !== 'token';
    return policyLosses(family, tokens, own, tokenForm, rollout, options).map((policy, k) => {
      let loss = policy.times(rho[k]);
      const ratio = onWhole ? whole : tokens[k].logRatio.exp();
      if (klCoef > 0) loss = loss.plus(klOf(tokens[k], ratio, batch, options).times(klCoef));
      return entropyCoef > 0 ? loss.minus(tokens[k].entropy.times(entropyCoef)) : loss;
    });
  });
  const N = Math.max(sequences.length, 1);
  const all = losses.flat();
  if (aggregation === 'sequence-mean') return finish(sum(losses.map(mean)).times(1 / N), leaves);
  const denominator = aggregation === 'token-mean' ? Math.max(all.length, 1) : N * maxLength;
  return finish(sum(all).times(1 / denominator), leaves);
}

export interface GroupOracleOptions {
  tau?: number | null | undefined;
  margin?: number | undefined;
  epsilonLow?: number | undefined;
  epsilonHigh?: number | undefined;
  klConstraint?: { beta: number; delta: number } | undefined;
}

/** A sequence's score: a mean over its tokens. `clipped` looks at one side, by the sign of the reward. */
export type GroupScore = 'logLikelihood' | 'ratio' | 'logRatio' | 'clipped';

function scoreOf(tokens: Token[], positive: boolean, score: GroupScore, options: GroupOracleOptions): Scalar {
  const { epsilonLow = 0.2, epsilonHigh = 0.2 } = options;
  return mean(
    tokens.map(({ logProb, logRatio }) => {
      if (score === 'logLikelihood') return logProb;
      if (score === 'ratio') return logRatio.exp();
      if (score === 'logRatio') return logRatio;
      return positive
        ? logRatio.exp().min(new Scalar(1 + epsilonHigh))
        : logRatio.exp().max(new Scalar(1 - epsilonLow));
    }),
  );
}

type GroupForm = (positives: Scalar[], negatives: Scalar[], options: GroupOracleOptions) => Scalar;

/** J_g of each group objective, as in its paper. */
export const GROUP_FORMS = {
  infoNCE: (positives, negatives, { tau, margin = 0 }) => {
    const T = tau ?? 0.1;
    // log(a / (a + sum b)) as -log(1 + sum b / a), whose derivative does not cancel where the contrast is won
    const terms = positives.map((s) => {
      const odds = negatives.map((other) =>
        other
          .minus(s)
          .plus(new Scalar(margin))
          .times(1 / T)
          .exp(),
      );
      return ONE.plus(sum(odds)).log().times(-T);
    });
    return mean(terms);
  },
  disco: (positives, negatives, { tau = 10 }) => {
    if (tau === null) return mean(positives).minus(mean(negatives));
    return mean(positives).minus(
      mean(negatives.map((s) => s.times(1 / tau).exp()))
        .log()
        .times(tau),
    );
  },
  real: (positives, negatives, { tau }) => {
    const wrong = (scores: Scalar[], sign: number) =>
      ONE.plus(sum(scores.map((s) => s.times(sign / tau!).exp()))).log();
    return wrong(positives, -1).plus(wrong(negatives, 1)).times(-1);
  },
  discriminative: (positives, negatives) => {
    const p = positives.length / (positives.length + negatives.length);
    return mean(positives)
      .minus(mean(negatives))
      .times(Math.sqrt(p * (1 - p)));
  },
} satisfies Record<string, GroupForm>;

/** -(1/G) sum_g J_g; groups of one sign, or without any token, add 0. */
export function groupOracle(
  batch: OracleBatch,
  form: keyof typeof GROUP_FORMS,
  score: GroupScore,
  options: GroupOracleOptions = {},
): OracleResult {
  const { sequences, leaves } = tokensOf(batch);
  const { cuGroups, rewards } = batch;
  const groups = Math.max(cuGroups.length - 1, 1);
  let loss = new Scalar(0);
  for (let g = 0; g + 1 < cuGroups.length; g++) {
    const members = Array.from({ length: cuGroups[g + 1] - cuGroups[g] }, (_, k) => cuGroups[g] + k);
    const sides = [true, false].map((positive) =>
      members.filter((i) => rewards[i] > 0 === positive).map((i) => scoreOf(sequences[i], positive, score, options)),
    );
    if (sides.some((side) => side.length === 0) || members.every((i) => sequences[i].length === 0)) continue;
    loss = loss.minus((GROUP_FORMS[form] as GroupForm)(sides[0], sides[1], options).times(1 / groups));
  }
  if (options.klConstraint) {
    const { beta, delta } = options.klConstraint;
    const kl = mean(sequences.flat().map(({ logRatio }) => logRatio.times(-1)));
    const excess = kl.minus(new Scalar(delta)).max(new Scalar(0));
    loss = loss.plus(excess.times(excess).times(beta / 2));
  }
  return finish(loss, leaves);
}
