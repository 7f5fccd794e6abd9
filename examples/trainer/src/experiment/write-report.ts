// npm run experiment:report
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { report } from './report.js';

export const root = fileURLToPath(new URL('../../../../', import.meta.url));

export function reportFiles(): Map<string, string> {
  const results = JSON.parse(readFileSync(`${root}bench/results/experiment.json`, 'utf8'));
  return report(results, readFileSync(new URL('findings.md', import.meta.url), 'utf8'));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [name, text] of reportFiles()) writeFileSync(`${root}docs/${name}`, text);
}
