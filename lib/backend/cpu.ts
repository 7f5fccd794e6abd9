// The cpu backend: the addon's kernels, on arrays as they are.
import type { Backend, Cancel, KernelCall, KernelName } from '../kernels.js';
import { runReference } from '../reference/backend.js';
import { type Absent, type Addon, type AddonOrigin, addonOrigin, nativeAddon, type Present } from './addon.js';
import { wrongSetting } from './settings.js';
import { onThread } from './threads.js';
import { isTiny } from './tiny.js';

interface CpuInfo {
  simd: string;
  threads: number;
  addon: AddonOrigin;
}

let cpu: Present<CpuInfo> | Absent | undefined;

/** The cpu backend, or the reason there is none. */
export function cpuBackend(): Present<CpuInfo> | Absent {
  cpu ??= findCpu(nativeAddon());
  return cpu;
}

function findCpu(native: Addon | Absent): Present<CpuInfo> | Absent {
  if ('reason' in native) return native;
  const info = native.cpuInfo();
  const wrong = wrongSetting(info.simd);
  if (wrong) return { reason: wrong.message, asked: true };
  return { backend: hostBackend(native), info: { ...info, addon: addonOrigin() } };
}

/** Tiny kernels run without a call into the addon. */
function hostBackend(native: Addon): Backend {
  const sync = native as { [K in KernelName]: (args: KernelCall['args']) => void };
  const async = native as unknown as Record<
    string,
    (args: KernelCall['args'] & { cancel: Int32Array }) => Promise<void>
  >;
  const run = {
    kernel: (call: KernelCall) => (isTiny(call) ? runReference(call) : sync[call.kernel](call.args)),
    kernelAsync: (call: KernelCall, cancel: Cancel) =>
      isTiny(call)
        ? runReference(call)
        : onThread(() => async[`${call.kernel}Async`]({ cancel: cancel.flag, ...call.args }), cancel),
    read() {},
    readAsync: () => undefined,
    close() {},
  };
  return { name: 'cpu', start: () => run };
}
