import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { runCli, temporaryFolder } from './run-cli.js';

const folder = temporaryFolder();
const good = '{"group":"q","reward":1,"logprobs":[-1,-2]}';
const both = '{"group":"q","reward":1,"logprobs":[-1],"old_logprobs":[-1]}';

const cases: { name: string; lines: string[]; line: number; message: string }[] = [
  {
    name: 'not JSON',
    lines: [good, '{"group": q}'],
    line: 2,
    message: 'expected a JSON object, got text that is not JSON',
  },
  {
    name: 'cut off',
    lines: [good, good.slice(0, 20)],
    line: 2,
    message: 'expected a JSON object, got text that is not',
  },
  { name: 'an array', lines: ['[1]'], line: 1, message: 'expected a JSON object, got an Array of length 1' },
  { name: 'null', lines: ['null'], line: 1, message: 'expected a JSON object, got null' },
  {
    name: 'no group',
    lines: [good, '', '{"reward":1,"logprobs":[]}'],
    line: 3, // blank lines count
    message: '"group": expected a string or a number, got nothing',
  },
  {
    name: 'a group that is no name',
    lines: ['{"group":{"a":1},"reward":1,"logprobs":[]}'],
    line: 1,
    message: '"group": expected a string or a number, got an object with keys a',
  },
  {
    name: 'no reward',
    lines: ['{"group":"q","logprobs":[]}'],
    line: 1,
    message: '"reward": expected a finite number, got nothing',
  },
  {
    name: 'a reward in quotes',
    lines: ['{"group":"q","reward":"1","logprobs":[]}'],
    line: 1,
    message: '"reward": expected a finite number, got "1"',
  },
  {
    name: 'no logprobs',
    lines: ['{"group":"q","reward":1}'],
    line: 1,
    message: '"logprobs": expected an array of finite numbers, got nothing',
  },
  {
    name: 'a null among the logprobs',
    lines: [good, '{"group":"q","reward":1,"logprobs":[-1,null]}'],
    line: 2,
    message: '"logprobs"[1]: expected a finite number, got null',
  },
  {
    name: 'an infinity',
    lines: ['{"group":"q","reward":1,"logprobs":[-1e999]}'],
    line: 1,
    message: '"logprobs"[0]: expected a finite number, got -Infinity',
  },
  {
    name: 'old_logprobs too short',
    lines: ['{"group":"q","reward":1,"logprobs":[-1,-2],"old_logprobs":[-1]}'],
    line: 1,
    message: '"old_logprobs": expected 2 values, as many as "logprobs", got 1',
  },
  {
    name: 'ref_logprobs that are no array',
    lines: ['{"group":"q","reward":1,"logprobs":[-1],"ref_logprobs":-1}'],
    line: 1,
    message: '"ref_logprobs": expected an array of finite numbers, got -1',
  },
  {
    name: 'rollout_logprobs too long',
    lines: ['{"group":"q","reward":1,"logprobs":[-1],"rollout_logprobs":[-1,-2]}'],
    line: 1,
    message: '"rollout_logprobs": expected 1 values, as many as "logprobs", got 2',
  },
  {
    name: 'weights too short',
    lines: ['{"group":"q","reward":1,"logprobs":[-1,-2],"token_weights":[1]}'],
    line: 1,
    message: '"token_weights": expected 2 values, as many as "logprobs", got 1',
  },
  {
    name: 'a teacher only here',
    lines: [good, '{"group":"q","reward":1,"logprobs":[-1],"teacher_logprobs":[-1]}'],
    line: 2,
    message: '"teacher_logprobs": expected on all lines or on none, got one here, while line 1 has none',
  },
  {
    name: 'advantages per token',
    lines: ['{"group":"q","reward":1,"logprobs":[-1],"advantage":[1]}'],
    line: 1,
    message: '"advantage": expected a finite number, got an Array of length 1',
  },
  {
    name: 'an advantage only here',
    lines: [good, '{"group":"q","reward":1,"logprobs":[-1],"advantage":0}'],
    line: 2,
    message: '"advantage": expected on all lines or on none, got one here, while line 1 has none',
  },
  {
    name: 'a mask too long',
    lines: ['{"group":"q","reward":1,"logprobs":[-1],"mask":[1,0]}'],
    line: 1,
    message: '"mask": expected 1 values, as many as "logprobs", got 2',
  },
  {
    name: 'a mask of weights',
    lines: ['{"group":"q","reward":1,"logprobs":[-1,-1],"mask":[1,0.5]}'],
    line: 1,
    message: '"mask"[1]: expected 0 or 1, got 0.5',
  },
  {
    name: 'old_logprobs missing here',
    lines: ['', both, good],
    line: 3,
    message: '"old_logprobs": expected on all lines or on none, got none here, while line 2 has it',
  },
  {
    name: 'old_logprobs only here',
    lines: [good, both],
    line: 2,
    message: '"old_logprobs": expected on all lines or on none, got one here, while line 1 has none',
  },
  {
    name: 'ref_logprobs only here',
    lines: [good, '{"group":"q","reward":1,"logprobs":[-1],"ref_logprobs":[-1]}'],
    line: 2,
    message: '"ref_logprobs": expected on all lines or on none, got one here, while line 1 has none',
  },
];

describe('a bad line ends with 2, its place, and no output file', () => {
  test.each(cases)('$name', async ({ lines, line, message }) => {
    const file = join(folder, 'rollouts.jsonl');
    const out = join(folder, 'out.jsonl');
    writeFileSync(file, lines.join('\n'));
    const { status, stdout, stderr } = await runCli(['loss', file, '--out', out]);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr.startsWith(`error: ${file}:${line}: ${message}`), stderr).toBe(true);
    expect(stderr.trimEnd().split('\n')).toHaveLength(1);
    expect(existsSync(out)).toBe(false);
    expect(readdirSync(folder)).toEqual(['rollouts.jsonl']);
  });

  test('standard input has a name too', async () => {
    const { status, stderr } = await runCli(['loss', '-'], { input: `${good}\n{}\n` });
    expect({ status, stderr }).toEqual({
      status: 2,
      stderr: 'error: stdin:2: "logprobs": expected an array of finite numbers, got nothing\n',
    });
  });

  test('an output file that was there stays as it was', async () => {
    const out = join(folder, 'kept.jsonl');
    writeFileSync(out, 'precious\n');
    const { status } = await runCli(['loss', '-', '--out', out], { input: `${good}\nnot json\n` });
    expect(status).toBe(2);
    expect(readFileSync(out, 'utf8')).toBe('precious\n');
  });
});
