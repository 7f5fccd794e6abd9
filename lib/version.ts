// The package by its own name, which Node resolves from the sources and from `dist` alike.
import { createRequire } from 'node:module';
import { dirname } from 'node:path';

const require = createRequire(import.meta.url);
const manifest = 'rlvr-kernels/package.json';

/** The folder of the package. */
export function packageRoot(): string {
  return dirname(require.resolve(manifest));
}

/** The version in package.json. */
export function packageVersion(): string {
  return String(require(manifest).version);
}
