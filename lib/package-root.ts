// Where the package lies, for what is read or loaded from there. A bundler takes the code along and leaves the package, with the addon in
// it, in node_modules.
import Module from 'node:module';
import { dirname } from 'node:path';

const MANIFEST = 'rlvr-kernels/package.json';

/** Node's `createRequire`, out of the sight of webpack, which knows calls of that name and takes them over. */
export const requireFrom: typeof Module.createRequire = Reflect.get(Module, 'createRequire');

let root: string | undefined;

/**
 * The folder of the package, which Node finds by its name from the sources and from `dist` alike. From a bundle it finds
 * the package that is installed there. Throws where there is none, with code MODULE_NOT_FOUND.
 */
export function packageRoot(): string {
  root ??= dirname(findManifest());
  return root;
}

function findManifest(): string {
  for (const place of places()) {
    try {
      return requireFrom(place).resolve(MANIFEST);
    } catch {} // not there, or no place that Node could look from
  }
  throw Object.assign(new Error(`Cannot find '${MANIFEST}'`), { code: 'MODULE_NOT_FOUND' });
}

/**
 * Files to look from: the one that this code is in, and the main script. A bundle of CommonJS has no import.meta.url, one
 * of ES modules no __filename, and webpack puts in its place where the sources were. Not the working directory: a program
 * that is run in a stranger's folder must not load that folder's addon.
 */
function places(): string[] {
  const own = [import.meta.url, typeof __filename === 'string' ? __filename : undefined];
  return [...own, process.argv[1]].filter((place) => place !== undefined);
}
