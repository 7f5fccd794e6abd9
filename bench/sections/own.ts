// Whose rows are this package's own, and what identifies them.
import { type BackendName, backends } from '../../lib/index.js';
import { benchAddon } from '../problems/addon.js';
import type { Section, Shape } from '../report/report.js';

export const OWN = 'rlvr-kernels';

export interface Setting {
  readonly section: Section;
  readonly shape: Shape;
  readonly backend: BackendName;
}

/** Threads that a backend of this package uses. */
export function threadsOf(backend: BackendName): number | null {
  if (backend === 'reference') return 1;
  if (backend === 'wasm') return backends().find(({ name }) => name === backend)?.threads ?? null;
  return backend === 'cpu' ? (benchAddon()?.cpuInfo().threads ?? null) : null;
}

export function ownIdentity({ section, shape, backend }: Setting) {
  return { section, shape, backend, by: OWN, threads: threadsOf(backend) };
}
