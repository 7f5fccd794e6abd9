import { readFileSync } from 'node:fs';

/** The version in package.json, which lies one folder up from both `lib` and `dist`. */
export function packageVersion(): string {
  const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
  return String(version);
}
