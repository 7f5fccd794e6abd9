// How rolldown builds from lib/ for browsers: with what lib/web/ has in place of what only Node has.
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliDecompressSync, constants, deflateRawSync } from 'node:zlib';
import { rolldown } from 'rolldown';

const root = fileURLToPath(new URL('../..', import.meta.url));
const lib = (/** @type {string} */ name) => join(root, 'lib', name);

const TWINS = new Map([
  [lib('platform.ts'), lib('web/platform.ts')],
  [lib('backend/addon.ts'), lib('web/addon.ts')],
  [lib('backend/cpu.ts'), lib('web/addon.ts')],
]);
const WASM_MODULES = lib('web/wasm-modules.ts');
const NAMES = ['rlvr_kernels.wasm', 'rlvr_kernels.relaxed.wasm'];

/** Modules for WebAssembly that have been built, as lib/web/wasm-modules.ts is to hold them. */
export function packedModules() {
  const files = NAMES.map((name) => ({ name, file: join(root, 'prebuilds', 'wasm', `${name}.br`) }));
  const built = files.filter(({ file }) => existsSync(file));
  return Object.fromEntries(
    built.map(({ name, file }) => {
      const bytes = brotliDecompressSync(readFileSync(file));
      const deflated = deflateRawSync(bytes, { level: 9, memLevel: constants.Z_MAX_MEMLEVEL });
      return [name, deflated.toString('base64')];
    }),
  );
}

/** @type {Map<string, (string | undefined)[]>} modules of Node's, and what imports them */
const importers = new Map();

/** @type {import('rolldown').Plugin} A module of Node's that is left in is an error. */
export const twins = {
  name: 'lib for browsers',
  resolveId(id, importer) {
    if (id.startsWith('node:')) {
      importers.set(id, [...(importers.get(id) ?? []), importer]);
      return { id, external: true, moduleSideEffects: false };
    }
    if (importer === undefined || !id.startsWith('.')) return undefined;
    return TWINS.get(join(dirname(importer), id).replace(/\.js$/, '.ts'));
  },
  load(id) {
    return id === WASM_MODULES ? `export const wasmModules = ${JSON.stringify(packedModules())};` : undefined;
  },
  generateBundle(_options, bundle) {
    for (const chunk of Object.values(bundle)) {
      const [missing] = chunk.type === 'chunk' ? chunk.imports.filter((id) => id.startsWith('node:')) : [];
      if (missing !== undefined) {
        throw new Error(`no browser has ${missing}, which is imported by ${importers.get(missing)?.join(' and ')}`);
      }
    }
  },
};

/** @type {import('rolldown').InputOptions} */
export const FOR_BROWSERS = { platform: 'browser', transform: { target: 'es2022' }, plugins: [twins] };

/** @returns {Promise<string>} the code of `rlvr-kernels/web` */
export async function bundleWeb() {
  const license = readFileSync(join(root, 'node_modules', 'fflate', 'LICENSE'), 'utf8').trim();
  const bundle = await rolldown({ ...FOR_BROWSERS, input: lib('web/index.ts') });
  const { output } = await bundle.generate({ format: 'es', comments: false, minify: true, codeSplitting: false });
  await bundle.close();
  return `/* rlvr-kernels, MIT; with fflate:\n\n${license}\n*/\n${output[0].code}`;
}
