// The page of `rlvr-kernels bench --html`: what is in its text, and what a browser makes of it.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type { Browser, Page } from 'puppeteer-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { chartsOf } from '../../bench/report/html/charts.js';
import { renderHtml } from '../../bench/report/html/page.js';
import { renderMarkdown } from '../../bench/report/markdown.js';
import type { BenchReport, Section } from '../../bench/report/report.js';
import { launchChromium, withoutChromium } from '../../scripts/web/chromium.mjs';
import { benchReport, hostile } from '../support/bench-report.js';
import { temporaryFolder } from './run-cli.js';

/** Not `expect(page)`, which prints all of it. */
const has = (text: string, part: string) => text.includes(part);

const report = benchReport();
const page = renderHtml(report);
const chartIds = (of: BenchReport) => chartsOf(of).map(({ id }) => id);
const keep = (wanted: (section: Section) => boolean): BenchReport => ({
  ...report,
  rows: report.rows.filter(({ section }) => wanted(section)),
});

describe('the text of the page', () => {
  test('loads nothing, and forbids to', () => {
    const [, policy] = /http-equiv="Content-Security-Policy" content="([^"]*)"/.exec(page)!;
    expect(policy).toContain('default-src &#39;none&#39;');
    expect(policy).not.toMatch(/unsafe|https?:|\*/);
    expect(page.includes('sourceMappingURL')).toBe(false);
    const withoutScripts = page.replace(/<(script|style)\b[^>]*>[\s\S]*?<\/\1>/g, '');
    // Text has no '<' that is not a tag's, and values no quotes that do not end them: both are escaped.
    const tags = withoutScripts.match(/<[a-z][^>]*>/g)!.map((tag) => tag.replace(/"[^"]*"/g, '""'));
    const loading = /^<(link|img|iframe|object|embed|base|form|script|style)\b|\s(src|href|srcset|style|on\w+)=/;
    expect(tags.filter((tag) => loading.test(tag))).toEqual([]);
    expect(/<style>[^<]*(@import|url\()/.test(page)).toBe(false);
  });

  test('escapes every name, in markup and in JSON', () => {
    for (const text of Object.values(hostile)) expect(has(page, text), text).toBe(false);
    expect(page.match(/<script\b/g)).toHaveLength(page.match(/<\/script/g)!.length);
    expect(page.match(/<\/script/g)).toHaveLength(3);
    for (const part of ['onmouseover="', '<img', '\u202e']) expect(has(page, part), part).toBe(false);
    const [, json] = /<script type="application\/json" id="charts">(.*)<\/script>/.exec(page)!;
    expect(JSON.parse(json)).toEqual(JSON.parse(JSON.stringify(chartsOf(report))));
    expect(json).not.toMatch(/[<>&]/);
  });

  test('escapes whatever else is text in a report', () => {
    const evil = '<b id="evil">';
    const everywhere = renderHtml({
      ...report,
      date: evil,
      node: evil,
      machine: { ...report.machine, cpu: evil, platform: evil },
      package: { name: evil, version: evil },
      git: { commit: evil, dirty: null },
      backends: [{ name: evil, [evil]: { [evil]: evil } }],
      settings: { ...report.settings, command: evil },
      rows: report.rows.map((row) => ({ ...row, op: evil, by: row.by === 'memory' ? evil : row.by })),
      comparisons: report.comparisons.map((comparison) => ({ ...comparison, claim: evil })),
    });
    expect(has(everywhere, '<b id=')).toBe(false);
  });

  test('holds every row, every comparison and every peer', () => {
    const rows = page.match(/<tr\b/g)!.length;
    const tables = page.match(/<thead>/g)!.length;
    expect(rows).toBe(tables + report.rows.length + report.comparisons.length + report.peers.length);
    expect(has(page, '0.01 cores before, at most 0.19 cores in a round that counts, 0.76 cores after')).toBe(true);
    expect(has(page, '1c868d1c7852, with changes that are not in it')).toBe(true);
  });

  test('leaves out the charts of sections that are absent', () => {
    const all = chartIds(report);
    for (const prefix of ['roofline', 'losses', 'peers', 'memory', 'threads', 'groups', 'sweep']) {
      expect(
        all.filter((id) => id.startsWith(prefix)),
        prefix,
      ).not.toEqual([]);
    }
    expect(chartIds(keep((section) => section !== 'threads'))).toEqual(all.filter((id) => !id.startsWith('threads')));
    expect(chartIds(keep((section) => section !== 'groups'))).toEqual(all.filter((id) => id !== 'groups'));
    expect(chartIds(keep((section) => section === 'sweep'))).toEqual(['sweep-0']);
    expect(chartIds(keep((section) => section === 'linear'))).toEqual(['peers-0', 'memory-0']);
    const alone = { ...report, rows: report.rows.filter(({ backend, by }) => backend !== null || by === 'memory') };
    expect(chartIds(alone).filter((id) => id.startsWith('peers'))).toEqual([]);
    const none = renderHtml({ ...keep((section) => section === 'scores'), comparisons: [], peers: [] });
    expect(none).not.toMatch(/<script|<canvas|id="(comparisons|peers|charts-title)"/);
    expect(none).toContain('clipped ratio, forward');
    expect(renderHtml({ ...report, rows: [], comparisons: [], peers: [] })).toContain('AMD EPYC');
  });

  test('begins with what a step takes', () => {
    const step = 'A step of your batch: 5.40 ms, 94,810 tokens/s';
    expect(has(page, `<p class="step">${step} <span>(conspo from f32 logits to their gradient, cpu; `)).toBe(true);
    const markdown = renderMarkdown(report).split('\n');
    expect(markdown[2]).toBe(`${step} (conspo from f32 logits to their gradient, cpu; T=512, V=32000).`);
    const alone = renderMarkdown(keep((section) => section === 'token'));
    expect(alone).toMatch(/^A step of your batch: .* \(the token level from f32 logits .*, without a loss, cpu; T=\d/m);
    expect(renderHtml(keep((section) => section === 'scores'))).not.toContain('A step of your batch');
  });

  test('bars for one shape, where lines would be points', () => {
    const one = {
      ...report,
      rows: report.rows.filter(({ section, shape }) => section === 'losses' || shape === report.rows[0].shape),
    };
    const charts = chartsOf(one).filter(({ id }) => /^(roofline|losses)/.test(id));
    expect(charts.map(({ kind }) => kind)).toEqual(charts.map(() => 'bars'));
    const [roofline] = charts;
    expect(roofline.caption).toContain('T=512, V=32000.');
    expect(roofline.y.labels).toEqual(roofline.series.map(({ name }) => name));
    expect(roofline.y.labels).toContain('memory: read');
    roofline.series.forEach(({ points }, category) => {
      expect(points).toHaveLength(1);
      expect(points[0].y).toBe(category);
    });
    const { y, series } = charts.find(({ id }) => id === 'losses-0')!;
    expect(y.labels).toEqual(['conspo', 'grpo']);
    expect(series.map(({ points }) => points.map(({ x }) => x))).toEqual([[5.4, 6.4]]);
    expect(chartsOf(report).find(({ id }) => id === 'roofline-0')!.kind).toBe('lines');
    const oneThread = {
      ...report,
      rows: report.rows.filter(({ section, threads }) => section !== 'threads' || threads === 1),
    };
    expect(chartIds(oneThread).filter((id) => id.startsWith('threads'))).toEqual([]);
  });

  test('is the same from the built package, which brings the library and its license', async () => {
    const dist = fileURLToPath(new URL('../../dist/bench/report/html/', import.meta.url));
    const built: { renderHtml: typeof renderHtml } = await import(/* @vite-ignore */ join(dist, 'page.js'));
    expect(built.renderHtml(report) === page, 'dist differs from lib: npm run build:ts').toBe(true);
    expect(existsSync(join(dist, 'client/chart.umd.min.js.br'))).toBe(true);
    const licenses = readFileSync(join(dist, 'client/chart.umd.min.js.LICENSE.txt'), 'utf8');
    expect(licenses.match(/The MIT License/g)).toHaveLength(2);
  });
});

describe.skipIf(withoutChromium('bench-html', 'the page was not opened in a browser'))('in Chromium', () => {
  const folder = temporaryFolder();
  const [url, oneShape] = ['report.html', 'one-shape.html'].map((name) => pathToFileURL(join(folder, name)).href);
  const oneShapeReport = { ...report, rows: report.rows.filter(({ shape }) => shape === report.rows[0].shape) };
  let browser: Browser;

  beforeAll(async () => {
    writeFileSync(fileURLToPath(url), page);
    writeFileSync(fileURLToPath(oneShape), renderHtml(oneShapeReport));
    browser = await launchChromium();
  });
  afterAll(() => browser?.close());

  /** The page in a tab of its own, with everything that went wrong or out. */
  async function open(width: number, scheme: 'light' | 'dark', at = url): Promise<{ tab: Page; complaints: string[] }> {
    const tab = await browser.newPage();
    const complaints: string[] = [];
    tab.on('console', (message) => complaints.push(`${message.type()}: ${message.text()}`));
    tab.on('pageerror', (error) => complaints.push(`error: ${error}`));
    tab.on('request', (request) => {
      if (request.url() !== at) complaints.push(`request: ${request.url()}`);
    });
    await tab.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }]);
    await tab.setViewport({ width, height: 900, isMobile: width < 500 });
    await tab.goto(at, { waitUntil: 'networkidle0' });
    return { tab, complaints };
  }

  test.each([
    { width: 1280, scheme: 'light' },
    { width: 1280, scheme: 'dark' },
    { width: 360, scheme: 'light' },
    { width: 360, scheme: 'dark', of: 'one shape' },
  ] as const)(
    'draws every chart at $width pixels, $scheme, without errors or requests',
    async ({ width, scheme, ...one }) => {
      const { tab, complaints } = await open(width, scheme, 'of' in one ? oneShape : url);
      const canvases = await tab.evaluate(looksOfCanvases);
      expect(canvases.map(({ id }) => id)).toEqual(chartIds('of' in one ? oneShapeReport : report));
      for (const { id, colours, drawn, label } of canvases) {
        expect(drawn, `${id}: share of pixels that something was drawn on`).toBeGreaterThan(0.005);
        expect(colours, `${id}: colours of series`).toBeGreaterThan(0);
        expect(label, id).toMatch(/\d/);
      }
      expect(await tab.evaluate(widths)).toEqual({ page: width, view: width });
      expect(await tab.evaluate('globalThis.harmed')).toBeUndefined();
      expect(complaints).toEqual([]);
      await tab.close();
    },
  );

  test('has the rows in its tables, with the names as they are', async () => {
    const { tab } = await open(1280, 'light');
    const tables: { label: string; rows: string[][] }[] = await tab.evaluate(cellsOfTables);
    const bodies = tables.filter(({ label }) => label.startsWith('All rows'));
    expect(bodies.flatMap(({ rows }) => rows)).toHaveLength(report.rows.length);
    const names = bodies.flatMap(({ rows }) => rows.map((cells) => cells[2]));
    expect(new Set(names)).toEqual(new Set(report.rows.map(({ by, backend }) => backend ?? by)));
    const peers = tables.find(({ label }) => label === 'Peers')!.rows;
    expect(peers.at(-1)![2]).toBe(`no: ${hostile.reason.replace('\u202e', '\ufffd')}`);
    await tab.close();
  });

  test('draws anew when the colour scheme changes', async () => {
    const { tab, complaints } = await open(1280, 'light');
    await tab.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: 'dark' }]);
    await tab.evaluate('new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))');
    for (const { id, colours } of await tab.evaluate(looksOfCanvases)) expect(colours, id).toBeGreaterThan(0);
    expect(complaints).toEqual([]);
    await tab.close();
  });
});

// What follows runs in the page, as text: strings, so that nothing of the test's transpiling gets into it.

interface CanvasLook {
  readonly id: string;
  readonly label: string;
  /** Share of the pixels that are not transparent. */
  readonly drawn: number;
  /** How many of the style's colours of series are among the pixels. */
  readonly colours: number;
}

const looksOfCanvases = `(() => {
  const style = getComputedStyle(document.documentElement);
  const series = [0, 1, 2, 3, 4, 5].map((i) => parseInt(style.getPropertyValue('--series-' + i).trim().slice(1), 16));
  return [...document.querySelectorAll('canvas')].map((canvas) => {
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    const seen = new Set();
    let drawn = 0;
    for (let i = 0; i < data.length; i += 4) {
      if (data[i + 3] === 0) continue;
      drawn += 1;
      if (data[i + 3] === 255) seen.add(data[i] * 65536 + data[i + 1] * 256 + data[i + 2]);
    }
    return {
      id: canvas.id,
      label: canvas.getAttribute('aria-label'),
      drawn: (drawn * 4) / data.length,
      colours: series.filter((colour) => seen.has(colour)).length,
    };
  });
})()` as unknown as () => CanvasLook[];

const widths = `({ page: document.documentElement.scrollWidth, view: innerWidth })` as unknown as () => {
  page: number;
  view: number;
};

const cellsOfTables = `[...document.querySelectorAll('.table')].map((table) => ({
  label: table.getAttribute('aria-label'),
  rows: [...table.querySelectorAll('tbody tr')].map((row) => [...row.cells].map((cell) => cell.textContent)),
}))` as unknown as () => { label: string; rows: string[][] }[];
