// A report as one HTML page that loads nothing: figures as charts and all of them in tables.
import { createHash } from 'node:crypto';
import { formatNumber, machineFacts, stepTime } from '../figures.js';
import { printable } from '../printable.js';
import type { BenchReport } from '../report.js';
import { readAssets } from './assets.js';
import type { ChartSpec, Series } from './chart-spec.js';
import { chartsOf } from './charts.js';
import { legendOf } from './legend.js';
import { type Content, html, jsonForScript, Markup } from './markup.js';
import { comparisonTable, peerTable, resultTables } from './tables.js';

export function renderHtml(report: BenchReport): string {
  const { library, script, style } = readAssets();
  const charts = chartsOf(report);
  const title = `${report.package.name} benchmark on ${report.machine.cpu}`;
  const page = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy([library, script], style)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${title}</title>
<style>${new Markup(style)}</style>
</head>
<body>
<main>
${headerOf(report)}
${howToRead}
${charts.length > 0 ? chartSection(charts) : ''}
${report.comparisons.length > 0 ? html`<h2 id="comparisons">Comparisons</h2>\n${comparisonTable(report.comparisons)}` : ''}
<h2 id="results">All results</h2>
${resultTables(report.rows)}
${report.peers.length > 0 ? html`<h2 id="peers">Peers</h2>\n${peerTable(report.peers)}` : ''}
<footer>Charts drawn by Chart.js (MIT license), which is part of this page. It loads nothing from elsewhere.</footer>
</main>
${charts.length > 0 ? scriptsOf(charts, library, script) : ''}
</body>
</html>
`;
  return page.text;
}

function scriptsOf(charts: readonly ChartSpec[], library: string, script: string): Markup {
  return html`<script type="application/json" id="charts">${jsonForScript(charts)}</script>
<script>${new Markup(library)}</script>
<script type="module">${new Markup(script)}</script>`;
}

/** Only the page's own scripts and style, known by their hashes: nothing that a name might smuggle in, and no network. */
function policy(scripts: readonly string[], style: string): string {
  const hash = (text: string) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
  return [
    "default-src 'none'",
    `script-src ${scripts.map(hash).join(' ')}`,
    `style-src ${hash(style)}`,
    "base-uri 'none'",
    "form-action 'none'",
  ].join('; ');
}

function headerOf(report: BenchReport): Markup {
  const { machine, settings } = report;
  const facts = machineFacts(report);
  const terms: readonly (readonly [string, Content])[] = [
    ['Processor', facts.processor],
    ['Memory', facts.memory],
    ['System', facts.system],
    ['Package', facts.package],
    ['Commit', facts.commit],
    ...report.backends.map(({ name, ...details }) => [`Backend ${name}`, detailsOf(details)] as const),
    ['Others’ load', facts.load],
    ['Rounds', roundsOf(settings)],
    ['Command', html`<code>${settings.command}</code>`],
  ];
  const time = stepTime(report);
  return html`<header>
<h1>${report.package.name} benchmark</h1>
<p class="subtitle">${machine.cpu}, <time datetime="${report.date}">${report.date.slice(0, 16).replace('T', ' ')} UTC</time></p>
${time === undefined ? '' : html`<p class="step">${time.step} <span>(${time.of}).</span></p>\n`}<dl>
${terms.map(([term, fact]) => html`<div><dt>${term}</dt><dd>${fact}</dd></div>\n`)}</dl>
</header>`;
}

function roundsOf({ repeats, warmup, seed, quiet }: BenchReport['settings']): string {
  const quietly = quiet ? ', busy rounds thrown away and repeated' : '';
  return `${repeats} timed, ${warmup} to warm up${quietly}; seed ${seed}`;
}

function detailsOf(details: Record<string, unknown>): string {
  const text = (value: unknown) => (typeof value === 'string' ? value : JSON.stringify(value));
  const listed = Object.entries(details).filter(([, value]) => value !== null && value !== undefined);
  return listed.map(([name, value]) => `${name} ${text(value)}`).join(', ') || '–';
}

const howToRead = html`<section>
<h2 id="how-to-read">How to read this</h2>
<ul>
<li><b>ms</b> is the median of the timed calls. <b>p10 – p90</b> leaves out the fastest and the slowest tenth; charts show it as a thin line. A wide range means that the machine was not idle.</li>
<li><b>GB/s</b> counts the bytes that the task must read and write at least. A peer that moves more is charged the same, so its GB/s compare directly.</li>
<li><b>of memory</b> is the time that reading and copying the same bytes took in the same rounds, over this row’s time: 100 % is the memory bandwidth. Working in place can exceed it, because a copy also fetches the lines it overwrites.</li>
<li><b>error</b> is relative, against float64: the norm of the difference over the norm of the exact values.</li>
<li>Compare ratios within one run. Figures of different runs or machines are not comparable.</li>
</ul>
</section>`;

function chartSection(charts: readonly ChartSpec[]): Markup {
  return html`<section>
<h2 id="charts-title">Charts</h2>
<noscript><p>The charts need JavaScript; the tables below hold every number.</p></noscript>
<div class="charts">
${charts.map(figureOf)}</div>
</section>`;
}

function figureOf(chart: ChartSpec): Markup {
  const { id, title, caption, x, y, kind, series } = chart;
  const rates = kind === 'bars' ? x.title : y.title;
  const ranges = series.map((one) => rangeOf(one, kind)).join('; ');
  const description = `${title}. ${rates}: ${ranges}. The tables below hold all numbers.`;
  return html`<figure class="${kind}" aria-labelledby="${id}-title">
<h3 id="${id}-title">${title}</h3>
<div class="plot"><canvas id="${id}" role="img" aria-label="${description}"></canvas></div>
${legendOf(chart)}
<figcaption>${caption}</figcaption>
</figure>
`;
}

function rangeOf({ name, points }: Series, kind: ChartSpec['kind']): string {
  const values = points.map(({ x, y }) => (kind === 'bars' ? x : y));
  const [least, most] = [Math.min(...values), Math.max(...values)].map((value) => formatNumber(value));
  return `${printable(name)} ${least === most ? least : `${least} to ${most}`}`;
}
