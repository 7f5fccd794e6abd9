// `verify:cuda --sanitizer`: what is asked of compute-sanitizer and made of its answer, with a program that stands in for it.
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { runSanitizers } from '../../cli/dev/sanitizers.js';

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'rlvr-sanitizer-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

function standIn(script: string): NodeJS.ProcessEnv {
  const file = join(folder, 'compute-sanitizer');
  writeFileSync(file, `#!/bin/sh\n${script}`);
  chmodSync(file, 0o755);
  return { PATH: `${folder}:/usr/bin:/bin` };
}

test('each tool runs the command, and says what it found', () => {
  const log = vi.spyOn(console, 'log').mockImplementation(() => {});
  const env = standIn(`
if [ "$2" = racecheck ]; then echo "========= RACECHECK SUMMARY: 1 hazard displayed"; exit 86; fi
"$7" -e 'console.log("all agree")' && echo "========= ERROR SUMMARY: 0 errors"`);
  const results = runSanitizers([process.execPath, 'program'], folder, env);
  expect(results).toEqual([
    { tool: 'memcheck', clean: true, summary: 'ERROR SUMMARY: 0 errors' },
    { tool: 'racecheck', clean: false, summary: 'RACECHECK SUMMARY: 1 hazard displayed' },
    { tool: 'initcheck', clean: true, summary: 'ERROR SUMMARY: 0 errors' },
  ]);
  expect(log.mock.calls.flat().join('')).toContain('1 hazard displayed');
  log.mockRestore();
});

test('a program that fails is not clean, and a tool that is missing is named', () => {
  const log = vi.spyOn(console, 'log').mockImplementation(() => {});
  expect(runSanitizers(['program'], folder, standIn('exit 1'))[0]).toEqual({
    tool: 'memcheck',
    clean: false,
    summary: 'no summary, exit status 1',
  });
  expect(() => runSanitizers(['program'], folder, { PATH: '/nowhere', CUDA_PATH: folder })).toThrow(
    /^--sanitizer: no compute-sanitizer on PATH/,
  );
  log.mockRestore();
});
