// The README's charts are what their result files give, and say nothing but figures of those.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { charts } from '../scripts/readme-charts.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));

describe.each(Object.entries(charts(root)))('%s', (file, svg) => {
  test('is the committed one', () => {
    expect(readFileSync(`${root}/${file}`, 'utf8') === svg, `${file} is not up to date: npm run docs:charts`).toBe(
      true,
    );
  });

  test('is drawn within its frame, from numbers', () => {
    expect(svg).not.toMatch(/NaN|undefined|Infinity/);
    const [, width, height] = /viewBox="0 0 (\d+) (\d+)"/.exec(svg)!.map(Number);
    const bars = [...svg.matchAll(/<rect x="(\d+)" y="(\d+)" width="([\d.]+)" height="12"/g)];
    expect(bars.length).toBeGreaterThan(4);
    for (const [, x, y, length] of bars.map((bar) => bar.map(Number))) {
      expect(x + length).toBeLessThan(width);
      expect(y + 12).toBeLessThan(height);
      expect(length).toBeGreaterThanOrEqual(2);
    }
    expect(svg).toMatch(/fill="#1f6feb"/); // ours is there
  });

  test('has a title and a description for those who do not see it', () => {
    expect(svg).toMatch(/<title id="t">[^<]+<\/title>/);
    expect(/<desc id="d">([^<]+)<\/desc>/.exec(svg)![1]).toMatch(/rlvr-kernels: \d/);
  });
});
