// The addon's own functions with valid arguments, and what each of them may write.
import { nativeAddon } from '../../../lib/backend/addon.js';
import { DIAGNOSTICS, KERNELS, MPI, type Record_ } from './addon-arguments.js';
import { Fields } from './data.js';
import type { Plan } from './plan.js';

type Call = (...args: unknown[]) => unknown;

export interface AddonCall {
  name: string;
  call: Call;
  args(plan: Plan): unknown[];
  /** Names, in the argument that is an object. */
  outputs: readonly string[];
  /** What the CUDA runtime, or the addon without an MPI, says of an honest call. */
  mayFail?: boolean;
}

function loaded(): Record_ {
  const addon = nativeAddon();
  return 'reason' in addon ? {} : (addon as unknown as Record_);
}

function cpuCalls(addon: Record_): AddonCall[] {
  const kernels = Object.entries(KERNELS).flatMap(([name, { make, outputs }]) => [
    { name, outputs, call: addon[name] as Call, args: (plan: Plan) => [make(new Fields(plan.batch), plan)] },
    {
      name: `${name}Async`,
      outputs,
      call: addon[`${name}Async`] as Call,
      args: (plan: Plan) => [{ ...make(new Fields(plan.batch), plan), cancel: new Int32Array(1) }],
    },
  ]);
  const others = Object.entries(DIAGNOSTICS).map(([name, { make, outputs }]) => ({
    name,
    outputs,
    call: addon[name] as Call,
    args: (plan: Plan) => [make(new Fields(plan.batch), plan)],
  }));
  return [...kernels, ...others, { name: 'cpuInfo', outputs: [], call: addon.cpuInfo as Call, args: () => [{}] }];
}

/** Without an MPI: no library is loaded, so that all of them find nothing to do, or fail. */
function mpiCalls(mpi: Record_): AddonCall[] {
  const plain = ['load', 'start', 'finalize', 'drain'].map((name) => ({
    name,
    outputs: [],
    args: () => ['no-such-mpi.so'],
  }));
  const withObject = Object.entries(MPI).flatMap(([name, { make, outputs }]) =>
    (name === 'reduce' || name === 'gather' ? [name, `${name}Async`] : [name]).map((each) => ({
      name: each,
      outputs,
      args: (plan: Plan) => [make(new Fields(plan.batch), plan)],
    })),
  );
  return [...plain, ...withObject].map((each) => ({
    ...each,
    name: `mpi.${each.name}`,
    call: mpi[each.name] as Call,
    mayFail: true,
  }));
}

/** Sessions come from a device: without one, nothing that is handed over is a session. */
function cudaCalls(cuda: Record_): AddonCall[] {
  const Device = cuda.Device as (new (...args: unknown[]) => object) | undefined;
  if (Device === undefined) return [];
  const kernels = Object.entries(KERNELS).flatMap(([name, { make, outputs }]) =>
    [name, `${name}Time`].map((each) => ({
      name: `cuda.${each}`,
      outputs,
      call: cuda[each] as Call,
      args: (plan: Plan) => [{}, make(new Fields(plan.batch), plan), 1, false],
    })),
  );
  const methods = Object.getOwnPropertyNames(Device.prototype).filter((name) => name !== 'constructor');
  return [
    ...kernels,
    { name: 'cuda.info', outputs: [], call: cuda.info as Call, args: ({ variant }) => [variant % 3] },
    ...Object.entries(cuda.nccl as Record_).map(([name, call]) => ({
      name: `cuda.nccl.${name}`,
      outputs: [],
      call: call as Call,
      args: () => ['no-such-nccl.so'],
      mayFail: true,
    })),
    { name: 'cuda.findProducts', outputs: [], call: cuda.findProducts as Call, args: () => [{}] },
    {
      name: 'cuda.Device',
      outputs: [],
      call: (...args) => new Device(...args),
      args: ({ variant }) => [variant % 3, variant % 2 === 0 ? undefined : 0n],
      mayFail: true,
    },
    {
      name: 'cuda.Device without new',
      outputs: [],
      call: (...args) => (Device as unknown as Call)(...args),
      args: () => [0, undefined],
      mayFail: true,
    },
    ...methods.map((name) => ({
      name: `cuda.Device.prototype.${name}`,
      outputs: [],
      call: (receiver: unknown, ...args: unknown[]) => Reflect.apply(methodOf(Device, name), receiver, args),
      args: () => [{}, 8, 8],
      mayFail: true, // "Invalid argument", of a receiver that is none
    })),
  ];
}

function methodOf(Class: { prototype: object }, name: string): Call {
  const { value, get } = Object.getOwnPropertyDescriptor(Class.prototype, name) ?? {};
  return value ?? get;
}

const addon = loaded();

export const ADDON_CALLS: readonly AddonCall[] = [
  ...cpuCalls(addon),
  ...cudaCalls((addon.cuda ?? {}) as Record_),
  ...mpiCalls((addon.mpi ?? {}) as Record_),
];
