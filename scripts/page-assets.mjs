// What the page of `rlvr-kernels bench --html` embeds, after tsc: its own script and style, and Chart.js with its
// license. Copied rather than a dependency, so that installing the package does not install a charting library.
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const client = 'bench/report/html/client';
const target = `${root}/dist/${client}`;

mkdirSync(target, { recursive: true });
for (const file of ['draw.js', 'page.css']) cpSync(`${root}/${client}/${file}`, `${target}/${file}`);
cpSync(`${root}/node_modules/chart.js/dist/chart.umd.min.js`, `${target}/chart.umd.min.js`);

// Chart.js has @kurkle/color built in.
const licenses = ['chart.js', '@kurkle/color'].map(
  (name) => `${name}\n\n${readFileSync(`${root}/node_modules/${name}/LICENSE.md`, 'utf8')}`,
);
writeFileSync(`${target}/chart.umd.min.js.LICENSE.txt`, licenses.join('\n'));
