// The functions of Node-API that an addon for Windows looks up when it is loaded (native/portable/node_api_windows.cpp).

import { mkdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

/** Those of the version that CMakeLists.txt asks for, as NAPI_VERSION. @returns {string[]} */
function functions() {
  const { binary } = createRequire(import.meta.url)(join(root, 'package.json'));
  const cmakeJs = createRequire(createRequire(import.meta.url).resolve('cmake-js/package.json'));
  const { symbols } = cmakeJs('node-api-headers');
  const { js_native_api_symbols, node_api_symbols } = symbols[`v${binary.napi_versions.at(-1)}`];
  return [...js_native_api_symbols, ...node_api_symbols].sort();
}

/** @param {string} folder for node_api_functions.h */
export function writeNodeApiFunctions(folder) {
  mkdirSync(folder, { recursive: true });
  const lines = functions().map((name) => `NODE_API_FUNCTION(${name})\n`);
  writeFileSync(join(folder, 'node_api_functions.h'), lines.join(''));
}
