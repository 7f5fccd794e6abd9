// docs/reliability.md from the results of `npm run fuzz` and `npm run soak`: every number in it comes from those.

import type { Column } from '../../bench/report/columns.js';
import { escapeMarkdown, markdownTable } from '../../bench/report/markdown-table.js';
import type { FuzzRecord, Origin, Reading, ReliabilityRecord, SoakRecord } from './records.js';

const isFuzz = (record: ReliabilityRecord): record is FuzzRecord => record.measurement === 'rlvr-kernels fuzz';

const SUBJECTS: Readonly<Record<string, string>> = {
  api: 'public functions',
  addon: "the addon's own",
  readers: 'readers of files',
};

const grouped = (n: number) => n.toLocaleString('en-US');
const commitOf = ({ git }: Origin) =>
  `${git.commit?.slice(0, 12) ?? 'unknown'}${git.dirty === true ? ', changed' : ''}`;

const ORIGIN: readonly Column<Origin>[] = [
  { header: 'date', cell: ({ date }) => date.slice(0, 10) },
  { header: 'commit', cell: commitOf },
  { header: 'Node', cell: ({ node }) => node.replace(/^v/, '') },
  { header: 'system', cell: ({ machine }) => machine.platform },
];

interface FuzzRow extends FuzzRecord {
  subject: string;
}

const result = ({ calls, subject }: FuzzRow) => calls[subject].result ?? 0;
const refused = ({ calls, subject }: FuzzRow) => calls[subject].refused ?? 0;

const FUZZ_COLUMNS: readonly Column<FuzzRow>[] = [
  ...ORIGIN,
  { header: 'addon', cell: ({ sanitizers }) => (sanitizers ? 'ASan, UBSan' : 'as shipped') },
  { header: 'called', cell: ({ subject }) => SUBJECTS[subject] ?? escapeMarkdown(subject) },
  { header: 'calls', cell: (row) => grouped(result(row) + refused(row)), numeric: true },
  { header: 'gave a result', cell: (row) => grouped(result(row)), numeric: true },
  { header: 'refused', cell: (row) => grouped(refused(row)), numeric: true },
  {
    header: 'faults',
    cell: (row) => grouped(row.faults.filter(({ subject }) => subject === row.subject).length),
    numeric: true,
  },
];

const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`;
const grown = (key: keyof Reading): Column<SoakRecord> => ({
  header: key,
  cell: ({ memory: { before, after } }) => `${megabytes(before[key])} → ${megabytes(after[key])}`,
  numeric: true,
});

const SOAK_COLUMNS: readonly Column<SoakRecord>[] = [
  ...ORIGIN,
  { header: 'calls', cell: ({ done, aborted }) => grouped(done + aborted), numeric: true },
  { header: 'aborted', cell: ({ aborted }) => grouped(aborted), numeric: true },
  { header: 'workers terminated', cell: ({ workers }) => grouped(workers), numeric: true },
  grown('heapUsed'),
  grown('external'),
  grown('rss'),
  { header: 'faults', cell: ({ faults, memory }) => grouped(faults.length + memory.grown.length), numeric: true },
];

const FUZZ = `\`npm run fuzz\` makes calls with generated arguments: about half of them valid, of every shape, type and size of number that is
legal; in the others, one to three things are wrong or hostile. Those are odd values in any place, arrays of another length, type or
realm, detached, resizable, shared or overlapping arrays, getters and proxies that throw, lie or change their answer, misspelt names.
A public function is called three times: by the reference backend, by the cpu backend, and by the cpu backend asynchronously. Then

- there is a result, or an \`RlvrError\` with a known code and a message of at most 500 characters that names the argument. An error
  that a getter of the caller throws passes through;
- nothing in the memory of any argument has changed, other than the elements of a gradient that was to be written there, and
  nothing at all after an error;
- every number of a result is finite, the blocking and the asynchronous form agree to the bit, and the backend agrees with the
  reference within the [specification's](spec.md#8-accuracy) tolerances;
- the process is alive: calls are made in processes with limited memory, and one that ends, or says nothing for 30 seconds, is a fault.

The addon's own functions, which the package calls with checked arguments only, are called wrongly in the same ways: they throw, or
write to nothing but their outputs. The command line's readers of rollouts and of benchmark reports are given mutated files.`;

const SOAK = `\`npm run soak\` makes asynchronous calls, 24 at a time, a third of them aborted at some moment, beside worker threads that are
terminated in the middle of their own. Every result is compared with the first of its kind. Memory, after garbage collections, is the
median of the first third of the readings and of the last.`;

/** The whole document. `files`: where the results are, from the root. */
export function reliabilityDocument(records: readonly ReliabilityRecord[], files: readonly string[]): string {
  const fuzz = records
    .filter(isFuzz)
    .flatMap((record) => Object.keys(record.calls).map((subject) => ({ ...record, subject })));
  const soak = records.filter((record) => !isFuzz(record));
  return [
    `<!-- Generated from ${files.join(', ') || 'no results yet'} by cli/dev/write-reliability.ts (npm run docs:reliability). Do not edit. -->`,
    '# Reliability',
    'What was tried to break the package, and what came of it. [SECURITY.md](../SECURITY.md) says what is promised.',
    '## Generated calls',
    FUZZ,
    ...(fuzz.length > 0 ? [markdownTable(FUZZ_COLUMNS, fuzz)] : []),
    '## Long runs',
    SOAK,
    ...(soak.length > 0 ? [markdownTable(SOAK_COLUMNS, soak)] : []),
    '',
  ]
    .join('\n\n')
    .trimEnd()
    .concat('\n');
}
