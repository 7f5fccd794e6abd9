// Imports, types counted, run down the layout that CONTRIBUTING.md shows, and form no circle.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { arrowsUp, circles, layoutTable, nativeIncludes, sourceFiles, typescriptImports } from './support/imports.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const layout = layoutTable(readFileSync(`${root}/CONTRIBUTING.md`, 'utf8'), '## Layout');
const graph = typescriptImports(sourceFiles(root, ['lib', 'cli', 'bench'], /\.ts$/));

describe('imports of lib, cli and bench', () => {
  test('form no circle', () => {
    expect(circles(graph)).toEqual([]);
  });

  test('run down the layout of CONTRIBUTING.md', () => {
    expect(layout.length).toBeGreaterThan(10);
    expect(arrowsUp(graph, layout)).toEqual([]);
  });

  test('are all found', () => {
    for (const imports of graph.values()) for (const name of imports) expect(graph.has(name), name).toBe(true);
    expect(graph.get('lib/losses/conspo.ts')).toContain('lib/objectives/info-nce.ts');
    expect(graph.get('lib/run/select.ts')).toContain('lib/kernels.ts'); // a type alone
  });
});

test('includes of native form no circle, a header and its source taken as one', () => {
  const modules = nativeIncludes(sourceFiles(root, ['native'], /\.(h|cpp|cu)$/));
  expect(modules.size).toBeGreaterThan(50);
  expect(circles(modules)).toEqual([]);
});

describe('what is planted is found', () => {
  test('a circle, of types too', () => {
    const planted = new Map([
      ['lib/a.ts', "import type { B } from './run/b.js';"],
      ['lib/run/b.ts', "export type C = import('../c.js').C;"],
      ['lib/c.ts', "export type { A } from './a.js';"],
      ['lib/d.ts', "import './a.js';"],
    ]);
    expect(circles(typescriptImports(planted))).toEqual([['lib/a.ts', 'lib/c.ts', 'lib/run/b.ts']]);
  });

  test('an arrow that runs up, and a file without a place', () => {
    const planted = new Map([
      ['lib/errors.ts', "import { conspo } from './losses/conspo.js';"],
      ['lib/losses/conspo.ts', ''],
      ['elsewhere/x.ts', ''],
    ]);
    expect(arrowsUp(typescriptImports(planted), layout)).toEqual([
      'lib/errors.ts imports lib/losses/conspo.ts, above it',
      'elsewhere/x.ts is in no row of the layout',
    ]);
  });

  test('a circle of includes', () => {
    const planted = new Map([
      ['native/cpu/a.h', '#include "cpu/b.h"\n'],
      ['native/cpu/b.h', ''],
      ['native/cpu/b.cpp', '#include "cpu/b.h"\n#include "cpu/a.h"\n'],
    ]);
    expect(circles(nativeIncludes(planted))).toEqual([['native/cpu/a', 'native/cpu/b']]);
  });
});
