// A browser for tests: what RLVR_CHROMIUM names, else a Chromium on PATH.
import { createServer } from 'node:http';
import { delimiter, join } from 'node:path';
import { launch } from 'puppeteer-core';
import { onPath } from '../../install/toolchain.mjs';

const NAMES = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];

/** @returns {string | undefined} its path */
function findChromium() {
  const folders = (process.env.PATH ?? '').split(delimiter).filter(Boolean);
  const files = folders.flatMap((folder) => NAMES.map((name) => join(folder, name)));
  return process.env.RLVR_CHROMIUM || files.find(onPath);
}

/**
 * Whether what opens pages is left out, which it then says.
 * @param {string} by @param {string} what
 */
export function withoutChromium(by, what) {
  const absent = findChromium() === undefined && process.env.REQUIRE_CHROMIUM !== '1';
  if (absent) console.warn(`${by}: no Chromium (RLVR_CHROMIUM, or chromium on PATH): ${what}`);
  return absent;
}

/** Throws where there is none. */
export function launchChromium() {
  const executablePath = findChromium();
  if (executablePath === undefined) throw new Error('REQUIRE_CHROMIUM=1, and there is no Chromium: see RLVR_CHROMIUM');
  return launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] });
}

/**
 * What a page leaves in `globalThis.result`, once it is there; with all that it said in the console, and requests for elsewhere.
 * @param {import('puppeteer-core').Browser} browser @param {string} url @param {{ module?: string, timeout?: number }} [options] `module`: its script
 * @returns {Promise<{ result: any, complaints: string[] }>}
 */
export async function resultOfPage(browser, url, { module, timeout = 30_000 } = {}) {
  const tab = await browser.newPage();
  const complaints = complaintsOf(tab);
  await tab.goto(url);
  if (module !== undefined) await tab.addScriptTag({ type: 'module', content: module });
  const deadline = Date.now() + timeout;
  const isThere = () => tab.evaluate('globalThis.result !== undefined');
  while (!(await isThere()) && complaints.length === 0) {
    if (Date.now() > deadline) throw new Error(`${url}: expected a result within ${timeout} ms`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  const result = await tab.evaluate('globalThis.result');
  await tab.close();
  return { result, complaints };
}

/**
 * Adds up what a tab says in its console, errors that nothing catches, and requests for elsewhere.
 * @param {import('puppeteer-core').Page} tab
 */
export function complaintsOf(tab) {
  /** @type {string[]} */
  const complaints = [];
  tab.on('console', (message) => complaints.push(`${message.type()}: ${message.text()}`));
  tab.on('pageerror', (error) => complaints.push(`error: ${error}`));
  tab.on('request', (request) => {
    if (!/^(file:|data:|blob:|http:\/\/127\.0\.0\.1:)/.test(request.url()))
      complaints.push(`request: ${request.url()}`);
  });
  return complaints;
}

/**
 * A server of text on this machine, for which browsers allow what they refuse to files.
 * @param {(path: string) => { type: string, body: string }} answer
 */
export async function serve(answer) {
  const server = createServer(({ url }, response) => {
    const { type, body } = answer(url ?? '/');
    response.writeHead(200, { 'content-type': type }).end(body);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(undefined)));
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address());
  return { url: `http://127.0.0.1:${port}`, close: () => server.close() };
}
