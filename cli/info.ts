import type { Command } from 'commander';
import { type BackendInfo, backends } from '../lib/index.js';
import { selectBackend } from '../lib/run/select.js';
import { packageVersion } from '../lib/version.js';
import { jsonOption } from './options.js';

export function addInfoCommand(program: Command): void {
  program
    .command('info')
    .description('show the version, the backends and why any is missing, SIMD level, threads and GPU')
    .addOption(jsonOption())
    .action(({ json }: { json?: boolean }) => {
      const facts = gatherFacts();
      process.stdout.write(json ? `${JSON.stringify(facts)}\n` : renderFacts(facts));
    });
}

interface Facts {
  readonly version: string;
  readonly node: string;
  readonly platform: string;
  readonly arch: string;
  /** The backend that host arrays go to; null if the one that RLVR_BACKEND asks for is not there. */
  readonly backend: string | null;
  readonly backendError?: string;
  readonly backends: readonly BackendInfo[];
  readonly simd: string | null;
  readonly threads: number | null;
  /** null without a usable CUDA backend; the backend's entry says why. */
  readonly gpu: BackendInfo | null;
}

function gatherFacts(): Facts {
  const all = backends();
  const available = (name: string) => all.find((backend) => backend.name === name && backend.available);
  return {
    version: packageVersion(),
    node: process.versions.node,
    platform: process.platform,
    arch: process.arch,
    ...defaultBackend(),
    backends: all,
    simd: available('cpu')?.simd ?? null,
    threads: available('cpu')?.threads ?? null,
    gpu: available('cuda') ?? null,
  };
}

/** `info` must answer above all when something is wrong, so a backend that cannot be had is a fact and no failure. */
function defaultBackend(): Pick<Facts, 'backend' | 'backendError'> {
  try {
    return { backend: selectBackend().name };
  } catch (error) {
    return { backend: null, backendError: (error as Error).message };
  }
}

function renderFacts(facts: Facts): string {
  const rows = [
    ['rlvr-kernels', facts.version],
    ['node', `${facts.node} (${facts.platform} ${facts.arch})`],
    ['backend', facts.backend ?? `none: ${facts.backendError}`],
    ...facts.backends.map(({ name, available, reason, addon, simd }) => {
      const which = addon ?? simd;
      const how = available
        ? `available${which ? ` (${which})` : ''}`
        : `not available: ${reason ?? 'no reason given'}`;
      return [`  ${name}`, how];
    }),
    ['SIMD', facts.simd ?? 'none (no cpu backend)'],
    ['threads', facts.threads === null ? 'none (no cpu backend)' : String(facts.threads)],
    ['GPU', facts.gpu === null ? 'none (no cuda backend)' : 'available'],
  ];
  const width = Math.max(...rows.map(([label]) => label.length));
  return rows.map(([label, value]) => `${label.padEnd(width)}  ${value}\n`).join('');
}
