// The part of docs/conformance.md on Liger-Kernel's own tests.
import type { Column } from '../report/columns.js';
import { escapeMarkdown, markdownCode } from '../report/markdown-table.js';
import { runText, tableOf } from './document-parts.js';
import type { LigerResult, LigerRow } from './result.js';

const LEAD = `Liger's own tests of its GRPO functions (\`test_grpo_loss.py\`), with their inputs, references in PyTorch, element types and tolerances, run on the
CPU with this package in the place of what they test. For \`LigerFusedLinearGRPOLoss\` that is a loss from hidden states; for \`triton_grpo_loss\` one
from logits, or, where it returns the loss of each token, \`tokenLogProbs\`, then the loss from \`logProbs\` with \`perToken: true\` and \`normalizer: 1\`,
then \`tokenLogProbsBackward\`. Clip widths, \`beta\`, temperatures, masks, old and reference log-probs, and biases vary within a row: numbers stand as
variables named like the option. The reference log-probs come from \`linearLogProbs\` where a test gives the reference layer; without a
reference they are the policy's own. \`vllm_is_ratio\` is \`rolloutWeights\`, for vespo \`rolloutLogProbs\`. Liger counts a token of cispo as clipped only
where the advantage is positive; that fraction is counted from the returned log-probs. Of a sequence ratio with \`vllm_is_ratio\` per token its tests
compare the loss only: [the gradients differ](losses.md#named-losses).`;

const WORDS: Readonly<Record<string, string>> = {
  theirs: 'Liger differs',
  refused: 'not expressible',
  failed: 'fails',
};

/** The section. */
export function ligerSection(liger: LigerResult | undefined): string[] {
  if (liger === undefined) return [];
  const parts = [...new Set(liger.rows.map(({ part }) => part))].sort().reverse(); // losses first
  return [
    `## Liger-Kernel ${escapeMarkdown(liger.versions['Liger-Kernel'] ?? '')}`.trimEnd(),
    `${LEAD} ${runText(liger)}.`,
    summary(liger),
    ...parts.flatMap((part) => [`### ${escapeMarkdown(part)}`, table(liger.rows.filter((row) => row.part === part))]),
    ...reasons(liger),
  ];
}

function summary({ outcomes }: LigerResult): string {
  const { passed, theirs, refused, failed, skipped, 'left out': left } = outcomes;
  const ran = passed + theirs + refused + failed;
  const plural = (n: number, one: string, many: string) => `${n} ${n === 1 ? one : many}`;
  const parts = [
    `Of ${ran + skipped + left} tests Liger skips ${skipped}, of settings that it does not have or finds unstable.`,
    left > 0 &&
      `Of large sizes one test of each loss type, level of the ratio and element type is run, and ${left} are not.`,
    `Of the ${ran} that were run ${plural(passed, 'passes', 'pass')}, ${plural(theirs, 'passes', 'pass')} once ours does the one thing that Liger does otherwise,`,
    `${refused} cannot be expressed, and ${plural(failed, 'fails', 'fail')}.`,
  ];
  return parts.filter((part) => part !== false).join('\n');
}

function table(rows: readonly LigerRow[]): string {
  const given = [...new Set(rows.flatMap(({ tests }) => Object.keys(tests)))];
  const columns: readonly Column<LigerRow>[] = [
    { header: 'setting', cell: ({ setting }) => markdownCode(setting) },
    { header: 'here', cell: ({ call }) => markdownCode(call) },
    ...given.map((by) => ({
      ...{ header: `tests: ${by}`, numeric: true, cell: ({ tests }: LigerRow) => String(tests[by] ?? '') },
    })),
    { header: 'floats', cell: ({ dtypes }) => dtypes.join(', ') },
    { header: '', cell: verdict },
  ];
  return tableOf(columns, rows);
}

const verdict = ({ notPassed }: LigerRow) =>
  Object.entries(notPassed)
    .filter(([outcome]) => outcome in WORDS)
    .map(([outcome, tests]) => `**${WORDS[outcome]}** in ${tests}`)
    .join(', ');

function reasons({ reasons: given }: LigerResult): string[] {
  if (given.length === 0) return [];
  const lines = given.map(
    ({ outcome, reason, tests, first }) =>
      `- ${WORDS[outcome]} in ${tests}, as in ${markdownCode(first)}: ${escapeMarkdown(reason)}`,
  );
  return ['### Tests that do not pass as they are, and why', lines.join('\n')];
}
