// `rlvr-kernels/web`: what is in its one file, and what it does in Chromium.
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { gzipSync } from 'node:zlib';
import type { Browser } from 'puppeteer-core';
import { rolldown } from 'rolldown';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { Finding } from '../cli/verify/findings.js';
import * as nodeAddon from '../lib/backend/addon.js';
import * as nodeCpu from '../lib/backend/cpu.js';
import * as api from '../lib/index.js';
import * as nodePlatform from '../lib/platform.js';
import * as webAddon from '../lib/web/addon.js';
import * as webPlatform from '../lib/web/platform.js';
import { launchChromium, resultOfPage, serve, withoutChromium } from '../scripts/web/chromium.mjs';
import { bundleWeb, FOR_BROWSERS, packedModules } from '../scripts/web/twins.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const bundle = readFileSync(join(root, 'dist/lib/web/index.js'), 'utf8');
const wasmIsBuilt = existsSync(join(root, 'prebuilds/wasm')); // REQUIRE_BACKENDS makes its absence a failure

async function bundled(entry: string, plugins = FOR_BROWSERS.plugins): Promise<string> {
  const made = await rolldown({ ...FOR_BROWSERS, plugins, input: join(root, entry) });
  const { output } = await made.generate({ format: 'es', codeSplitting: false });
  await made.close();
  return output[0].code;
}

describe('the bundle', () => {
  test('is what the sources make', async () => {
    expect(bundle === (await bundleWeb()), 'dist/lib/web is of other sources: npm run build:ts').toBe(true);
  });

  test('is at most 350 KB as a server sends it, with the modules for WebAssembly in it', () => {
    for (const name of Object.keys(packedModules())) expect(bundle).toContain(`"${name}":`);
    expect(Object.keys(packedModules())).toHaveLength(wasmIsBuilt ? 2 : 0);
    expect(gzipSync(bundle).length).toBeLessThanOrEqual(350_000);
  });

  test('takes nothing of Node, and imports nothing', () => {
    expect(bundle.match(/node:\w+|\bprocess\b[.?]|\bBuffer\.|\brequire\(|\bimport\b/g)).toBeNull();
  });

  test('is not made where a module of Node is left in it', async () => {
    await expect(bundled('lib/backend/install-report.ts')).rejects.toThrow(/no browser has node:fs.*install-report/);
  });

  test('runs on the reference without the modules, and says so', async () => {
    const none = {
      name: 'none',
      load: (id: string) => (id.endsWith('wasm-modules.ts') ? 'export const wasmModules = {};' : null),
    };
    const file = join(mkdtempSync(join(tmpdir(), 'rlvr-web-')), 'web.mjs');
    const warn = vi.spyOn(console, 'warn').mockReturnValue();
    try {
      const code = await bundled('lib/web/index.ts', [none, FOR_BROWSERS.plugins]);
      writeFileSync(file, code);
      const web: typeof api = await import(pathToFileURL(file).href);
      expect(web.backends()[2].reason).toMatch(/^no module for WebAssembly: this bundle was made without it/);
      web.groupInfoNCESync({ scores: [0, -1], rewards: [1, 0], cuGroups: [0, 2] });
      expect(warn.mock.calls).toEqual([[expect.stringMatching(/^\[RLVR_REFERENCE\] .*not in a browser.*without it/)]]);
    } finally {
      rmSync(dirname(file), { recursive: true });
      warn.mockRestore();
    }
  });

  test('exports what the library does', async () => {
    const web = await import(join(root, 'dist/lib/web/index.js'));
    expect(Object.keys(web).sort()).toEqual(Object.keys(api).sort());
  });

  test('is made with modules that have the types of those they stand for', () => {
    webPlatform satisfies typeof nodePlatform;
    webAddon satisfies Pick<typeof nodeAddon & typeof nodeCpu, keyof typeof webAddon>;
    expect(Object.keys(webPlatform).sort()).toEqual(Object.keys(nodePlatform).sort());
    expect(Object.keys({ ...nodeAddon, ...nodeCpu })).toEqual(expect.arrayContaining(Object.keys(webAddon)));
  });
});

describe.skipIf(!wasmIsBuilt || withoutChromium('web', 'rlvr-kernels/web was not run in a browser'))(
  'in Chromium',
  () => {
    const scripts = new Map([['/web.js', bundle]]);
    let server: Awaited<ReturnType<typeof serve>>;
    let browser: Browser;

    beforeAll(async () => {
      scripts.set('/verify.js', await bundled('test/web/verify-page.ts'));
      server = await serve((path) => {
        const body = scripts.get(path);
        return body === undefined
          ? { type: 'text/html', body: '<link rel="icon" href="data:,">' }
          : { type: 'text/javascript', body };
      });
      browser = await launchChromium();
    });
    afterAll(async () => {
      await browser?.close();
      server?.close();
    });

    /** What a module leaves in `globalThis.result`, without a word in the console. */
    async function resultOf<T>(module: string): Promise<T> {
      const { result, complaints } = await resultOfPage(browser, server.url, { module });
      expect(complaints).toEqual([]);
      return result;
    }

    test('every op and loss agrees with the reference', async () => {
      type Verified = { backends: api.BackendInfo[]; findings: Finding[] };
      const { backends, findings } = await resultOf<Verified>("import '/verify.js';");
      expect(backends.map(({ name, available }) => [name, available])).toEqual([
        ['cuda', false],
        ['cpu', false],
        ['wasm', true],
        ['reference', true],
      ]);
      expect(backends[2].threads).toBe(1);
      expect(findings.length).toBeGreaterThan(60);
      expect(findings.filter(({ pass }) => pass !== true)).toEqual([]);
    });

    const BATCH = `
    const [tokens, vocab] = [24, 500];
    const batch = () => ({
      logits: Float32Array.from({ length: tokens * vocab }, (_, i) => 3 * Math.sin(i * i)),
      targets: Int32Array.from({ length: tokens }, (_, i) => (37 * i) % vocab),
      cuSeqlens: Int32Array.of(0, 6, 12, 18, 24),
      cuGroups: Int32Array.of(0, 4),
      rewards: Float32Array.of(1, 0, 0, 1),
    });`;

    test('runs on wasm by itself, and refuses absent backends by name', async () => {
      const { losses, refusals } = await resultOf<{ losses: number[]; refusals: string[] }>(`
      import { conspo, conspoSync, RlvrError } from '/web.js';
      ${BATCH}
      const refusals = [];
      for (const backend of ['cpu', 'cuda']) {
        try { conspoSync(batch(), { backend }); }
        catch (error) { refusals.push(\`\${error instanceof RlvrError} \${error.code} \${error.message}\`); }
      }
      const losses = [conspoSync(batch()), await conspo(batch()), conspoSync(batch(), { backend: 'wasm' })];
      globalThis.result = { losses: losses.map(({ loss }) => loss), refusals };`);
      expect(refusals).toEqual(
        ['cpu', 'cuda'].map(
          (name) =>
            `true ERR_BACKEND backend: expected an available backend, got '${name}': ` +
            'not in a browser: it needs the native addon, which is for Node.js',
        ),
      );
      expect(new Set(losses).size).toBe(1);
      expect(losses[0]).toBeGreaterThan(0);
    });

    test('gives the page its turns, and a signal ends a call', async () => {
      const { turns, code } = await resultOf<{ turns: number; code: string }>(`
      import { tokenLogProbs } from '/web.js';
      const [tokens, vocab] = [2000, 8000];
      const inputs = { logits: new Float32Array(tokens * vocab), targets: new Int32Array(tokens), shape: [tokens, vocab] };
      let turns = 0;
      const timer = setInterval(() => turns++, 1);
      await tokenLogProbs(inputs);
      clearInterval(timer);
      const aborted = new AbortController();
      setTimeout(() => aborted.abort(), 1);
      const { code } = await tokenLogProbs(inputs, { signal: aborted.signal }).then(() => ({ code: 'done' }), (error) => error);
      globalThis.result = { turns, code };`);
      expect(turns).toBeGreaterThan(1);
      expect(code).toBe('ERR_ABORTED');
    });

    test('runs in a worker', async () => {
      scripts.set(
        '/worker.js',
        `import { backends, conspoSync } from '/web.js';
      ${BATCH}
      const found = backends().find(({ name }) => name === 'wasm');
      postMessage({ available: found.available, loss: conspoSync(batch()).loss });`,
      );
      const { available, loss } = await resultOf<{ available: boolean; loss: number }>(`
      const worker = new Worker('/worker.js', { type: 'module' });
      worker.onmessage = ({ data }) => { globalThis.result = data; };`);
      expect(available).toBe(true);
      expect(loss).toBeGreaterThan(0);
    });
  },
);
