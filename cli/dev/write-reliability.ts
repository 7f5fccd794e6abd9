// `npm run docs:reliability`: docs/reliability.md from the results of fuzz and soak in bench/results.
//
//   npm run docs:reliability [-- --check]     --check fails unless the document is what the results give
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { packageRoot } from '../../lib/package-root.js';
import type { ReliabilityRecord } from './records.js';
import { reliabilityDocument } from './reliability.js';

const DOCUMENT = 'docs/reliability.md';
const RESULTS = 'bench/results';

/** The results that the document is made from, by name. */
function readRecords(root: string): { files: string[]; records: ReliabilityRecord[] } {
  const names = readdirSync(join(root, RESULTS)).filter((name) => /^(fuzz|soak)-.*\.json$/.test(name));
  const files = names.sort().map((name) => `${RESULTS}/${name}`);
  return { files, records: files.map((file) => JSON.parse(readFileSync(join(root, file), 'utf8'))) };
}

function documentOf(root: string): string {
  const { files, records } = readRecords(root);
  return reliabilityDocument(records, files);
}

/** Why the committed document is not what the results give; undefined if all is well. */
export function problemWithReliability(root: string): string | undefined {
  const path = join(root, DOCUMENT);
  const same = existsSync(path) && readFileSync(path, 'utf8') === documentOf(root);
  return same ? undefined : `${DOCUMENT} is not what the results in ${RESULTS} give: npm run docs:reliability`;
}

// A test imports what is above.
if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const root = packageRoot();
  const problem = process.argv.includes('--check') ? problemWithReliability(root) : undefined;
  if (problem !== undefined) {
    console.error(problem);
    process.exitCode = 1;
  } else if (!process.argv.includes('--check')) {
    writeFileSync(join(root, DOCUMENT), documentOf(root));
    console.log(DOCUMENT);
  }
}
