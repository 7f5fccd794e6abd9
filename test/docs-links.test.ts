// Links of the Markdown files, as GitHub and npm show them: each leads to a file and a heading, from shipped files to shipped
// ones. And what comments cite of the specification is there.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));
const run = (command: string, ...args: string[]) => execFileSync(command, args, { cwd: root, encoding: 'utf8' });
const tracked = run('git', 'ls-files')
  .trim()
  .split('\n')
  .filter((name) => existsSync(join(root, name)));
const read = (name: string) => readFileSync(join(root, name), 'utf8');
const withoutCode = (markdown: string) => markdown.replace(/^```[\s\S]*?^```/gm, '').replace(/`[^`\n]*`/g, 'code');

/** Anchors of the headings, by GitHub's rule. */
function anchors(markdown: string): string[] {
  const headings = [...markdown.replace(/^```[\s\S]*?^```/gm, '').matchAll(/^#+ (.+)$/gm)];
  return headings.map(([, text]) =>
    text
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );
}

/** What is wrong with the relative links of a file. `shipped`: the only files that it may link to. */
function brokenLinks(name: string, markdown: string, shipped?: ReadonlySet<string>): string[] {
  return [...withoutCode(markdown).matchAll(/\]\(([^)\s]+)\)/g)].flatMap(([, link]) => {
    if (/^[a-z]+:/.test(link)) return [];
    const [path, anchor] = link.split('#');
    const target = path === '' ? name : posix.join(dirname(name), path);
    if (!existsSync(join(root, target))) return [`${name}: ${link} is no file`];
    if (shipped && !shipped.has(target)) return [`${name}: ${link} is not in the package`];
    const found = anchor === undefined || anchors(read(target)).includes(anchor);
    return found ? [] : [`${name}: ${link} is no heading there`];
  });
}

describe('links of Markdown files', () => {
  const files = tracked.filter((name) => name.endsWith('.md') && !name.startsWith('test/'));

  test('lead somewhere', () => {
    expect(files).toEqual(expect.arrayContaining(['README.md', 'docs/spec.md', 'CONTRIBUTING.md', 'bench/README.md']));
    expect(files.flatMap((name) => brokenLinks(name, read(name)))).toEqual([]);
  });

  test('stay within the package', () => {
    const [{ files: packed }] = JSON.parse(run('npm', 'pack', '--dry-run', '--json', '--ignore-scripts'));
    const shipped = new Set<string>(packed.map(({ path }: { path: string }) => path));
    const pages = files.filter((name) => shipped.has(name));
    expect(pages).toEqual(expect.arrayContaining(['README.md', 'docs/guide-trainer.md', 'docs/performance.md']));
    expect(pages.flatMap((name) => brokenLinks(name, read(name), shipped))).toEqual([]);
  });

  test('would be seen if they did not', () => {
    const planted = '[a](docs/gone.md) [b](docs/spec.md#9-to-come) [c](vitest.config.ts)';
    expect(brokenLinks('README.md', planted, new Set(['docs/spec.md']))).toEqual([
      'README.md: docs/gone.md is no file',
      'README.md: docs/spec.md#9-to-come is no heading there',
      'README.md: vitest.config.ts is not in the package',
    ]);
  });
});

test('files and folders that the documentation names are there', () => {
  const named = [
    'README.md',
    'CONTRIBUTING.md',
    'docs/architecture.md',
    'docs/guide-platforms.md',
    'docs/spec.md',
  ].flatMap((name) =>
    [...read(name).matchAll(/`((?:lib|native|cli|bench|install|scripts|test|docs|examples)\/[\w./-]*)`/g)].map(
      ([, path]) => ({ name, path }),
    ),
  );
  expect(named.length).toBeGreaterThan(60);
  const invented = /my[-_](op|loss)/; // of the instructions to add one
  expect(named.filter(({ path }) => !existsSync(join(root, path)) && !invented.test(path))).toEqual([]);
});

test('sections of the specification that comments cite are in it', () => {
  const sections = [...read('docs/spec.md').matchAll(/^## (\d+)\. /gm)].map(([, number]) => number);
  expect(sections.length).toBeGreaterThan(6);
  const sources = tracked.filter((name) => /\.(ts|mjs|h|cpp|cu|txt|md)$/.test(name) && name !== 'docs/spec.md');
  const cited = sources.flatMap((name) =>
    [...read(name).matchAll(/\bspec(?:ification)?,? sections? (\d+)(?: and (\d+))?/gi)].flatMap(([, ...numbers]) =>
      numbers.filter((number) => number !== undefined).map((number) => ({ name, number })),
    ),
  );
  expect(cited.length).toBeGreaterThan(30);
  expect(cited.filter(({ number }) => !sections.includes(number))).toEqual([]);
});
