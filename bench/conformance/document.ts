// docs/conformance.md from a result.
import type { Column } from '../report/columns.js';
import { escapeMarkdown, markdownCode } from '../report/markdown-table.js';
import { runText, tableOf } from './document-parts.js';
import { ligerSection } from './liger-document.js';
import {
  type AccuracyRow,
  type ConformanceResult,
  type ConformanceRow,
  NEARLY,
  type Outcome,
  outcome,
  TOLERANCES,
} from './result.js';

type Trainer = ConformanceRow['trainer'];

const LEADS: Record<Trainer, string> = {
  TRL: `TRL's own \`GRPOTrainer\` is run from completions and rewards to the loss, in float64, on six batches for each setting: 4 to 12
sequences of 1 to 23 tokens, vocabularies of 29 to 1031, sampling policies near and far, tokens of tools masked in two of them. Ours is given the
same logits in float32, and where nothing else is said TRL's advantages. "Off by" is the largest difference of any gradient by a logit,
relative to the largest gradient, and the difference of the loss relative to the loss, or to the sum of its absolute terms where they cancel.`,
  verl: `verl's registered policy losses are run in float64 on log-probs, and so are ours; the gradient is by the log-probs.`,
};

/** The document. `file`: the result it is made from. */
export function conformanceDocument(result: ConformanceResult, file: string): string {
  const trainers = (['TRL', 'verl'] as const).filter((name) => result.rows.some(({ trainer }) => trainer === name));
  return `${[
    `<!-- Generated from ${file} by cli/dev/conformance.ts (npm run conformance). Do not edit. -->`,
    '# Conformance',
    introduction(result),
    ...trainers.flatMap((trainer) => section(result, trainer)),
    ...ligerSection(result.liger),
    ...accuracySection(result.accuracy),
  ].join('\n\n')}\n`;
}

const introduction = (result: ConformanceResult) =>
  `What the losses of other projects are called here, and how nearly they agree: both compute the loss and its gradient on the same numbers. ${runText(result)}.`;

function section({ rows, versions }: ConformanceResult, trainer: Trainer): string[] {
  const own = rows.filter((row) => row.trainer === trainer);
  const parts = [...new Set(own.map(({ part }) => part))];
  return [
    `## ${trainer} ${escapeMarkdown(versions[trainer] ?? '')}`.trimEnd(),
    LEADS[trainer],
    summary(own, trainer),
    ...parts.flatMap((part) => [`### ${escapeMarkdown(part)}`, table(own.filter((row) => row.part === part))]),
    ...explanations(own),
  ];
}

function summary(rows: readonly ConformanceRow[], trainer: Trainer): string {
  const count = (wanted: Outcome) => rows.filter((row) => outcome(row) === wanted).length;
  const plural = (n: number, one: string, many: string) => `${n} ${n === 1 ? one : many}`;
  const [agrees, nearly, differs] = [count('agrees'), count('nearly'), count('differs')];
  const clauses = [
    `${plural(agrees, 'agrees', 'agree')} to ${TOLERANCES[trainer].toExponential()}`,
    ...(nearly > 0 ? [`${nearly} to ${NEARLY.toExponential()}, for a constant that is named`] : []),
    plural(differs, 'differs', 'differ'),
    `and ${count('refused')} cannot be expressed`,
  ];
  return `Of ${rows.length} settings ${clauses.join(', ')}.`;
}

const settingCell = ({ setting }: ConformanceRow) => markdownCode(setting).replaceAll('|', '\\|');

const DIFFERENCES = [
  { of: 'loss', header: 'loss off by' },
  { of: 'gradient', header: 'gradient off by' },
  { of: 'advantages', header: 'advantages off by' },
] as const;

function table(rows: readonly ConformanceRow[]): string {
  const columns: readonly Column<ConformanceRow>[] = [
    { header: 'setting', cell: settingCell },
    { header: 'here', cell: ({ call }) => markdownCode(call) },
    ...DIFFERENCES.filter(({ of }) => rows.some((row) => row[of] !== undefined)).map(({ of, header }) => ({
      ...{ header, numeric: true, cell: (row: ConformanceRow) => size(row[of]) },
    })),
    { header: '', cell: verdict },
  ];
  return tableOf(columns, rows);
}

const size = (difference: number | undefined) => (difference === undefined ? '' : difference.toExponential(0));

function verdict(row: ConformanceRow): string {
  const verdicts = { agrees: '', nearly: row.nearly ?? '', differs: 'differs', refused: 'not expressible' };
  const found = outcome(row);
  const text = escapeMarkdown(verdicts[found]);
  return found === 'differs' || found === 'refused' ? `**${text}**` : text;
}

/** Why rows differ, or what the package says to them. */
function explanations(rows: readonly ConformanceRow[]): string[] {
  const lines = rows.flatMap((row) => {
    const reasons = [...row.without, ...(row.refused === undefined ? [] : [firstClause(row.refused)])].map(
      escapeMarkdown,
    );
    if (outcome(row) === 'agrees' || outcome(row) === 'nearly') return [];
    return [`- ${markdownCode(row.setting)}: ${reasons.join('; ') || 'not explained'}`];
  });
  return lines.length === 0 ? [] : ['### What does not agree, and why', lines.join('\n')];
}

/** An error about an option goes on to list those that there are. */
const firstClause = (message: string) => message.split('; it has')[0];

function accuracySection(rows: readonly AccuracyRow[]): string[] {
  if (rows.length === 0) return [];
  const columns: readonly Column<AccuracyRow>[] = [
    { header: 'logits', cell: ({ dtype, logits }) => escapeMarkdown(`${dtype}, ${logits}`) },
    { header: 'by', cell: ({ by, how }) => `${escapeMarkdown(by)} ${markdownCode(how)}` },
    { header: 'log-prob, nats', numeric: true, cell: ({ logProb }) => size(logProb) },
    { header: 'gradient', numeric: true, cell: ({ gradient }) => size(gradient) },
    { header: 'at the target', numeric: true, cell: ({ target }) => size(target) },
  ];
  return [
    '## Accuracy of log-probs',
    `64 rows of 151,936 normal logits, each with a token drawn from its softmax, against float64 on the same rounded logits. The largest
errors: of a log-prob; of a gradient by a logit, relative to the largest gradient; and of the gradient at the target, relative to itself. That one is
upstream · (1 − p), and is lost where a p near 1 is subtracted; ours loses it where 1 − p is below the rounding of float64, as at × 50.
Gradients are as each function returns them, in the logits' own type.`,
    tableOf(columns, rows),
  ];
}
