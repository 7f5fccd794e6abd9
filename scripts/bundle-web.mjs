// dist/lib/web/index.js, which is `rlvr-kernels/web`: the library for browsers in one file, the modules for WebAssembly in it. Part of build:ts
// and of build:wasm, whichever comes last.

import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { bundleWeb, packedModules } from './web/twins.mjs';

const out = fileURLToPath(new URL('../dist/lib/web', import.meta.url));
const LIMIT = 350_000; // bytes, compressed with gzip as a server does

const code = await bundleWeb();
const compressed = gzipSync(code).length;
if (compressed > LIMIT) throw new Error(`rlvr-kernels/web is ${compressed} bytes compressed, ${LIMIT} at most`);
mkdirSync(out, { recursive: true });
for (const name of readdirSync(out)) if (name !== 'index.d.ts') rmSync(join(out, name)); // what tsc made of its parts
writeFileSync(join(out, 'index.js'), code);
const size = `${Math.round(code.length / 1000)} KB, ${Math.round(compressed / 1000)} KB compressed`;
const lacking = Object.keys(packedModules()).length > 0 ? '' : ', without WebAssembly: npm run build:wasm';
console.log(`rlvr-kernels/web: ${size}${lacking}`);
