// A browser for tests: what RLVR_CHROMIUM names, else a Chromium on PATH.
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import type { Browser } from 'puppeteer-core';

const names = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];

export function findChromium(): string | undefined {
  const named = process.env.RLVR_CHROMIUM;
  if (named) return named;
  const folders = (process.env.PATH ?? '').split(delimiter);
  return folders.flatMap((folder) => names.map((name) => join(folder, name))).find(isExecutable);
}

/** Whether the tests of a file that open pages are left out, which it then says. */
export function withoutChromium(file: string, what: string): boolean {
  const absent = findChromium() === undefined && process.env.REQUIRE_CHROMIUM !== '1';
  if (absent) console.warn(`${file}: no Chromium (RLVR_CHROMIUM, or chromium on PATH): ${what}`);
  return absent;
}

/** Throws where there is none. */
export async function launchChromium(): Promise<Browser> {
  const executablePath = findChromium();
  if (executablePath === undefined) throw new Error('REQUIRE_CHROMIUM=1, and there is no Chromium: see RLVR_CHROMIUM');
  const { launch } = await import('puppeteer-core');
  return launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] });
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
