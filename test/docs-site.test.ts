// The documentation as a site: built, every link of every page followed, and some pages opened in Chromium from disk.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type { Browser } from 'puppeteer-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { complaintsOf, launchChromium, withoutChromium } from '../scripts/web/chromium.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const site = mkdtempSync(join(tmpdir(), 'rlvr-site-'));
const pages = new Map<string, string>(); // by path in the site

beforeAll(() => {
  execFileSync(process.execPath, [join(root, 'node_modules/typedoc/bin/typedoc'), '--out', site], { cwd: root });
  for (const name of readdirSync(site, { recursive: true, encoding: 'utf8' })) {
    if (name.endsWith('.html')) pages.set(name, readFileSync(join(site, name), 'utf8'));
  }
}, 240_000);
afterAll(() => rmSync(site, { recursive: true, force: true }));

/** Values of attributes, with their entities resolved. */
function attributes(html: string, names: string): string[] {
  const values = [...html.matchAll(new RegExp(`\\s(?:${names})="([^"]*)"`, 'g'))].map(([, value]) => value);
  return values.map((value) => value.replaceAll('&quot;', '"').replaceAll('&#x27;', "'").replaceAll('&amp;', '&'));
}

/** Icons are in no page as it is written: a script puts them there. */
const isElsewhere = (link: string) => /^[a-z]+:|^#icon-/.test(link);

/** What is wrong with the links of a page. */
function brokenLinks(page: string, html: string): string[] {
  return attributes(html, 'href|src')
    .filter((link) => !isElsewhere(link))
    .flatMap((link) => {
      const [path, anchor] = link.split('#').map(decodeURIComponent);
      const target = path === '' ? page : relative(site, resolve(site, dirname(page), path));
      if (!existsSync(join(site, target))) return [`${page}: ${link} leads nowhere`];
      const found = !anchor || attributes(pages.get(target) ?? '', 'id|name').includes(anchor);
      return found ? [] : [`${page}: ${link} has no such anchor`];
    });
}

describe('the site', () => {
  test('has the README in front, every guide, and both entry points', () => {
    expect(pages.get('index.html')).toMatch(/every backend is tested against a float64\s+reference/);
    const { projectDocuments } = JSON.parse(readFileSync(join(root, 'typedoc.json'), 'utf8'));
    const ours = readdirSync(join(root, 'docs')).filter((name) => name.endsWith('.md'));
    expect(projectDocuments).toEqual(expect.arrayContaining(ours.map((name) => `docs/${name}`)));
    for (const file of projectDocuments) {
      const [, title] = /^# (.+)$/m.exec(readFileSync(join(root, file), 'utf8'))!;
      const page = pages.get(`documents/${title.replaceAll(' ', '_')}.html`);
      expect(page, file).toContain(`<h1>${title}</h1>`);
    }
    expect(pages.has('functions/rlvr-kernels.conspo.html')).toBe(true);
    expect(pages.has('functions/rlvr-kernels_cuda.openDevice.html')).toBe(true);
  });

  test('has links and anchors that lead somewhere', () => {
    expect(pages.size).toBeGreaterThan(100);
    expect([...pages].flatMap(([page, html]) => brokenLinks(page, html))).toEqual([]);
    const planted = '<a href="index.html#nowhere"></a><a href="gone.html"></a><img src="media/gone.svg">';
    expect(brokenLinks('modules.html', planted)).toHaveLength(3);
  });

  test('names no path of the machine that it was built on', () => {
    const naming = [...pages].filter(([, html]) => html.includes(root) || html.includes(site));
    expect(naming.map(([page]) => page)).toEqual([]);
  });
});

describe.skipIf(withoutChromium('docs-site', 'no page was opened in a browser'))('in Chromium, from disk', () => {
  let browser: Browser;
  beforeAll(async () => {
    browser = await launchChromium();
  });
  afterAll(() => browser?.close());

  const PAGES = [
    'index.html',
    'documents/Architecture.html',
    'documents/Losses.html',
    'documents/Specification.html',
    'documents/Performance.html',
    'documents/Train_in_your_browser.html',
    'functions/rlvr-kernels.conspo.html',
    'interfaces/rlvr-kernels.TokenLogProbsBackwardInputs.html',
  ];
  const VIEWS = [1280, 375].flatMap((width) => PAGES.map((page) => ({ width, page })));

  test.each(VIEWS)('$page at $width pixels: whole, and without complaints', async ({ page, width }) => {
    const tab = await browser.newPage();
    const complaints = complaintsOf(tab);
    await tab.setViewport({ width, height: 900, isMobile: width < 500 });
    await tab.goto(pathToFileURL(join(site, page)).href, { waitUntil: 'networkidle0' });
    const { view, content, images } = await tab.evaluate(looks);
    expect([view, content]).toEqual([width, width]);
    expect(images.filter(({ shown }) => !shown)).toEqual([]);
    if (page === 'index.html') expect(images).toHaveLength(2);
    expect(complaints).toEqual([]);
    await tab.close();
  });

  test('trains with ConSPO and GRPO, and draws their curves meanwhile', async () => {
    const tab = await browser.newPage();
    const complaints = complaintsOf(tab);
    await tab.goto(pathToFileURL(join(site, 'documents/Train_in_your_browser.html')).href);
    await tab.click('#demo button');
    await tab.waitForFunction(`/^step [1-9]/.test(document.querySelector('#demo output').textContent)`);
    expect(await tab.$$('#demo polyline')).toHaveLength(2);
    await tab.waitForSelector('#demo tbody', { timeout: 60_000 });
    const { status, rows } = (await tab.evaluate(trained)) as { status: string; rows: string[][] };
    expect(status).toMatch(/^trained in [\d.]+ s on (wasm|reference)/);
    expect(rows.map(([loss]) => loss)).toEqual(['conspo', 'grpo']);
    for (const [loss, greedy] of rows) expect(Number(greedy), loss).toBeGreaterThan(0.9);
    expect(complaints).toEqual([]);
    await tab.close();
  });

  test('stops training when told to', async () => {
    const tab = await browser.newPage();
    await tab.goto(pathToFileURL(join(site, 'documents/Train_in_your_browser.html')).href);
    const says = (text: string) =>
      tab.waitForFunction(`document.querySelector('#demo output').textContent.startsWith('${text}')`);
    await tab.click('#demo button');
    await says('step');
    await tab.click('#demo button');
    await says('stopped');
    expect(await tab.evaluate("document.querySelector('#demo button').textContent")).toBe('Train');
    await tab.close();
  });

  test('finds a loss by its name', async () => {
    const tab = await browser.newPage();
    await tab.goto(pathToFileURL(join(site, 'index.html')).href, { waitUntil: 'networkidle0' });
    await tab.click('#tsd-search-trigger');
    await tab.type('#tsd-search-input', 'conspo');
    await tab.waitForFunction("document.querySelector('#tsd-search-results a')?.textContent.includes('conspo')");
    await tab.close();
  });
});

// Runs in the page, as text: nothing of the test's transpiling gets into it.
const looks = `({
  view: innerWidth,
  content: document.documentElement.scrollWidth,
  images: [...document.images].map((image) => ({ src: image.src, shown: image.complete && image.naturalWidth > 0 })),
})` as unknown as () => { view: number; content: number; images: { src: string; shown: boolean }[] };

const trained = `({
  status: document.querySelector('#demo output').textContent,
  rows: [...document.querySelectorAll('#demo tbody tr')].map((row) => [...row.cells].map((cell) => cell.textContent)),
})`;
