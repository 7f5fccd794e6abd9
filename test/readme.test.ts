// The README's example is code that runs, as a user would run it: against the built package, imported by its name.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));

test('the example of the README runs', () => {
  expect(existsSync(`${root}/dist/lib/index.js`), 'dist is missing: npm run build:ts').toBe(true);
  const [, code] = /```js\n([\s\S]*?)```/.exec(readFileSync(`${root}/README.md`, 'utf8'))!;
  const output = execFileSync(process.execPath, ['--input-type=module', '-e', code], { cwd: root, encoding: 'utf8' });
  const [loss, inPlace, gap] = output.trim().split(' ');
  expect(Number(loss)).toBeGreaterThan(0);
  expect(inPlace).toBe('true');
  expect(Number.isFinite(Number(gap))).toBe(true);
});
