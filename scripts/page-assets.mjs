// What the page of `rlvr-kernels bench --html` embeds, after tsc: its own script and style, and Chart.js with its
// license. Copied rather than a dependency, so that installing the package does not install a charting library.
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync } from 'node:zlib';

const root = fileURLToPath(new URL('..', import.meta.url));
const client = `${root}/bench/report/html/client`;
const library = brotliCompressSync(readFileSync(`${root}/node_modules/chart.js/dist/chart.umd.min.js`));
/** Beside the code that reads them: as tsc leaves it, and as scripts/bundle.mjs does. */
const TARGETS = ['bench/report/html/client', 'cli/parts/client'];

// Chart.js has @kurkle/color built in.
const licenses = ['chart.js', '@kurkle/color'].map(
  (name) => `${name}\n\n${readFileSync(`${root}/node_modules/${name}/LICENSE.md`, 'utf8')}`,
);

for (const target of TARGETS.map((name) => `${root}/dist/${name}`)) {
  mkdirSync(target, { recursive: true });
  for (const file of ['draw.js', 'page.css']) cpSync(`${client}/${file}`, `${target}/${file}`);
  writeFileSync(`${target}/chart.umd.min.js.br`, library);
  writeFileSync(`${target}/chart.umd.min.js.LICENSE.txt`, licenses.join('\n'));
}
