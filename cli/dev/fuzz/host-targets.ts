// The public functions that run on no backend, with what must hold of their results.
import { openDevice } from '../../../lib/cuda/index.js';
import * as rlvr from '../../../lib/index.js';
import { problem } from './claims.js';
import { below, Fields } from './data.js';
import type { Plan } from './plan.js';
import { pick, type Target } from './targets.js';

type Call = (...args: unknown[]) => unknown;

const advantages: Target = {
  name: 'advantages',
  fields: ['groupOrder', 'tokenCounts', 'mask'],
  options: ['estimator', 'ddof', 'eps'],
  sync: rlvr.advantages as Call,
  args(plan) {
    const fields = new Fields(plan.batch);
    const optional = pick(fields, plan.fields);
    const { cuGroups, cuSeqlens } = fields;
    const inputs = { rewards: fields.weights('rewards', fields.sequences), cuGroups, cuSeqlens, ...optional };
    return [inputs, Object.fromEntries(plan.options)];
  },
};

/** [N] ids of groups: numbers, strings, or an Int32Array. */
function groupIds({ batch: { groups, seed }, variant }: Plan): unknown {
  const random = new Fields({ groups, seed } as Plan['batch']).random('ids');
  const ids = Array.from({ length: groups.flat().length }, () => below(random, 4));
  if (variant % 3 === 0) return Int32Array.from(ids);
  return variant % 3 === 1 ? ids.map((id) => id / 7) : ids.map((id) => `prompt ${id}`);
}

const fromDense: Target = {
  name: 'fromDense',
  fields: [],
  options: [],
  sync: rlvr.fromDense as Call,
  args: (plan) => [groupIds(plan)],
  check(result, [ids]) {
    const { cuGroups, groupOrder } = result as rlvr.DenseGroups;
    const given = ids as ArrayLike<unknown>;
    const order = groupOrder ?? Int32Array.from({ length: given.length }, (_, i) => i);
    const groupsAlike = Array.from(cuGroups.subarray(1)).every((end, g) => {
      const members = Array.from(order.subarray(cuGroups[g], end), (i) => given[i]);
      return members.length > 0 && members.every((id) => id === members[0]);
    });
    return problem(
      ['the order is a permutation', new Set(order).size === given.length],
      ['the groups hold every sequence', cuGroups[cuGroups.length - 1] === given.length],
      ['each group has one id', groupsAlike],
    );
  },
};

const padded: Target = {
  name: 'padded',
  fields: ['oldLogProbs', 'refLogProbs'],
  options: [],
  sync: rlvr.padded as Call,
  passesOn: true,
  args(plan) {
    const { groups, vocab, seed } = plan.batch;
    const [sequences, length] = [groups.length, seed % 6];
    const fields = new Fields({ ...plan.batch, groups: [new Array<number>(sequences).fill(length)] });
    const form = plan.variant % 2 === 0 && fields.plan.form !== 'flat' ? [sequences, length, vocab] : undefined;
    const logits = fields.logits();
    const rows = { logits: form ? { ...(logits as object), shape: form } : logits, targets: fields.targets() };
    const width = plan.variant % 3 === 0 && { vocab };
    const own = plan.batch.from === 'logits' ? { ...rows, ...width } : { logProbs: fields.logProbs() };
    const optional = Object.fromEntries(plan.fields.map((name) => [name, fields.others(name)]));
    return [{ shape: [sequences, length], mask: fields.mask(), ...own, ...optional }];
  },
  check(result, [batch]) {
    const { cuSeqlens, ...rest } = result as { cuSeqlens: Int32Array };
    const { shape, vocab: _vocab, ...given } = batch as { shape: number[]; vocab?: number };
    return problem(
      ['cuSeqlens has a sequence for each row', cuSeqlens.length === shape[0] + 1],
      ['every sequence has the length', cuSeqlens.every((begin, b) => begin === b * shape[1])],
      ['the other fields are there', Object.keys(given).every((name) => name in rest)],
    );
  },
};

const cosineMargin: Target = {
  name: 'cosineMargin',
  fields: [],
  options: ['target', 'warmup', 'progress'],
  sync: (parameters, progress) => (rlvr.cosineMargin as Call as (given: unknown) => Call)(parameters)(progress),
  args(plan) {
    const { progress = 0.3, ...parameters } = Object.fromEntries(plan.options);
    return [parameters, progress];
  },
  check(result, [parameters]) {
    const { target = 0 } = parameters as { target?: number };
    const margin = result as number;
    return problem([
      'the margin lies between 0 and the target',
      Math.abs(margin) <= Math.abs(target) && margin * target >= 0,
    ]);
  },
};

const backends: Target = {
  name: 'backends',
  fields: [],
  options: [],
  sync: rlvr.backends as Call,
  args: () => [],
  check: (result) => problem(['four backends', (result as unknown[]).length === 4]),
};

const device: Target = {
  name: 'openDevice',
  fields: [],
  options: [],
  sync: (...args) => {
    (openDevice as Call as (...given: unknown[]) => { dispose(): void })(...args).dispose();
    return {};
  },
  args: (plan) => [plan.variant % 2, plan.variant % 3 === 0 ? { stream: 0n } : {}],
};

export const HOST_TARGETS: readonly Target[] = [advantages, fromDense, padded, cosineMargin, backends, device];
