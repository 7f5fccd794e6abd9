// The rule for commit subjects: the script, the hook that calls it, and what the script says of whole histories.
import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));
const script = join(root, 'scripts/check-commits.sh');
const folder = mkdtempSync(join(tmpdir(), 'rlvr-commits-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function run(command: string, args: readonly string[], cwd = folder) {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd, encoding: 'utf8' });
  return { status, text: `${stdout}${stderr}` };
}

function checkMessage(message: string) {
  writeFileSync(join(folder, 'message'), message);
  return run(script, ['--message', 'message']);
}

describe('a subject', () => {
  test.each([
    'Add a loss',
    'Make gradients of 16-bit logits round once',
    'x'.padStart(70, 'Address '),
    `Measure ${'µ'.repeat(62)}`, // 70 characters, 132 bytes
    'Merge branch "a-branch-with-a-name-that-is-longer-than-any-subject-should-be" into main.',
    'Revert "Take the logits as they are, and the gradient where it is asked for, always"',
    'fixup! a subject that was bad.',
    'Add e.g. and so on\n\nFixes: a body may say anything, at any length, with full stops.',
    "\n\n# git's comments, and blank lines, come before\nKeep to the subject\n",
  ])('%j is taken', (message) => {
    expect(checkMessage(message)).toEqual({ status: 0, text: '' });
  });

  test.each([
    ['', /it is empty/],
    ['# only a comment\n', /it is empty/],
    ['x'.padStart(71, 'Address '), /71 characters; 70 are allowed/],
    ['add a loss', /capital letter/],
    ['Add a loss.', /full stop/],
    ['Added a loss', /'Added' is not a verb/],
    ['Fixes: the loss', /'Fixes' is not a verb/],
    ['The loss is added', /'The' is not a verb/],
  ])('%j is refused', (message, why) => {
    const { status, text } = checkMessage(message);
    expect([status, text]).toEqual([1, expect.stringMatching(why)]);
    expect(text).toContain('CONTRIBUTING.md');
  });

  test('hears everything that is wrong with it at once', () => {
    expect(checkMessage('fixing.').text).toMatch(/capital letter[\s\S]*full stop/);
  });
});

/** A repository of its own, with this project's script and hook, and a commit for each subject. */
function repository(name: string, subjects: readonly string[]): { path: string; git: (...args: string[]) => string } {
  const path = join(folder, name);
  mkdirSync(join(path, 'scripts'), { recursive: true });
  mkdirSync(join(path, '.githooks'));
  for (const file of ['scripts/check-commits.sh', '.githooks/commit-msg'])
    copyFileSync(join(root, file), join(path, file));
  const settings = ['user.name=A', 'user.email=a@example.com', 'core.hooksPath=/dev/null', 'commit.gpgSign=false'];
  const git = (...args: string[]) =>
    execFileSync('git', [...settings.flatMap((setting) => ['-c', setting]), ...args], { cwd: path, encoding: 'utf8' });
  git('init', '-q', '-b', 'main');
  for (const subject of subjects) git('commit', '-q', '--allow-empty', '-m', subject);
  return { path, git };
}

describe('a history', () => {
  test('is checked from the last tag on, without its merges', () => {
    const { path, git } = repository('tagged', ['before the rule.']);
    git('tag', 'v1');
    git('checkout', '-q', '-b', 'side');
    git('commit', '-q', '--allow-empty', '-m', 'Add one thing');
    git('checkout', '-q', 'main');
    git('merge', '-q', '--no-ff', '-m', 'a merge with a subject of its own.', 'side');
    expect(run('scripts/check-commits.sh', [], path)).toEqual({
      status: 0,
      text: 'commit subjects: 1 of 1 since v1 keep to the rule\n',
    });
    git('commit', '-q', '--allow-empty', '-m', 'Adds another');
    const { status, text } = run('scripts/check-commits.sh', [], path);
    expect(status).toBe(1);
    expect(text).toMatch(/^[0-9a-f]+: "Adds another"$/m);
    expect(text).toContain('1 of 2 since v1');
  });

  test('passes, and says why, where it does not reach back to the start', () => {
    const { path, git } = repository('whole', ['one.', 'two.', 'three.']);
    git('clone', '-q', '--depth', '1', `file://${path}`, join(folder, 'shallow'));
    copyFileSync(script, join(folder, 'check-commits.sh'));
    expect(run('../check-commits.sh', [], join(folder, 'shallow'))).toMatchObject({
      status: 0,
      text: expect.stringMatching(/not checked.*shallow/),
    });
    expect(run('./check-commits.sh', [])).toMatchObject({ status: 0, text: expect.stringMatching(/no git checkout/) });
  });
});

test('the hook refuses the commit, and lets the next one through', () => {
  const { path, git } = repository('hooked', ['Start']);
  git('config', 'core.hooksPath', '.githooks');
  const commit = (subject: string) =>
    run('git', ['-c', 'user.name=A', '-c', 'user.email=a@example.com', 'commit', '--allow-empty', '-m', subject], path);
  expect(commit('Fixed it')).toMatchObject({ status: 1, text: expect.stringMatching(/'Fixed' is not a verb/) });
  expect(commit('Fix it').status).toBe(0);
  expect(git('log', '--format=%s').trim().split('\n')).toEqual(['Fix it', 'Start']);
});
