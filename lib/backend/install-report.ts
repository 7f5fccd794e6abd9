// What install/install.mjs left in build/install-report.json, and what can be said where it left nothing.
import { readFileSync } from 'node:fs';
import { packageRoot } from '../package-root.js';

/** As in install/install.mjs. */
interface Report {
  ok?: boolean;
  reason?: string;
  crashed?: string;
}

function read(): Report | undefined {
  try {
    const report: unknown = JSON.parse(readFileSync(`${packageRoot()}/build/install-report.json`, 'utf8'));
    return typeof report === 'object' && report !== null ? report : undefined;
  } catch {
    return undefined; // installed without running scripts
  }
}

/** Why the install left no addon; with `subject`, what it reported if that is about the subject. */
export function installReport(subject?: RegExp): string | undefined {
  const { ok, reason } = read() ?? {};
  const said = typeof reason === 'string' && (subject ? subject.test(reason) : ok === false);
  return said ? reason : undefined;
}

/** The addon that ended the process in which the install tried it, by its path in the package. */
export function addonThatCrashed(): { addon: string; reason: string } | undefined {
  const { crashed, reason } = read() ?? {};
  return crashed === undefined
    ? undefined
    : { addon: crashed, reason: reason ?? `loading ${crashed} ends the process` };
}

/** From where the code is, Node knows no package of this name, or not what it depends on. */
const BUNDLED =
  "this code is no longer in its package's folder, where the addon is: a bundler has taken it out. Have it leave rlvr-kernels external " +
  '(esbuild --external:rlvr-kernels, webpack externals, Vite ssr.external, rollup external), for Node to load from node_modules';

/** Why node-gyp-build found no addon, where the install reported nothing bad. */
export function whyNoAddon(error: unknown): string {
  if ((error as NodeJS.ErrnoException).code === 'MODULE_NOT_FOUND') return BUNDLED;
  const libc = /\blibc=(\w+)/.exec((error as Error).message)?.[1];
  const system = `${process.platform}-${process.arch}${process.platform === 'linux' && libc ? ` with ${libc}` : ''}`;
  if (read()) return `no addon for ${system} is left of the install: have your package manager rebuild rlvr-kernels`;
  return (
    `no prebuilt addon for ${system}, and the install script that compiles one did not run, or could not write to build/. ` +
    'To run it: "npm rebuild rlvr-kernels" (after --ignore-scripts), "pnpm approve-builds", or "enableScripts: true" in ' +
    '.yarnrc.yml and "yarn rebuild rlvr-kernels"'
  );
}
