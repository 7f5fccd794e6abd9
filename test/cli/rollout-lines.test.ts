// What `loss` reads and writes back: every digit, every byte, and no more of a line than there is room for.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { UsageError } from '../../cli/errors.js';
import { maxLineBytes, readLines } from '../../cli/input-file.js';
import { objectText, rawMembers } from '../../cli/loss/json-members.js';
import { parseRollout, readRollouts } from '../../cli/loss/rollout-lines.js';
import { runCli, temporaryFolder } from './run-cli.js';

const folder = temporaryFolder();
const file = join(folder, 'rollouts.jsonl');
const out = join(folder, 'graded.jsonl');

/** Grades the lines, and gives what was printed and written. */
async function grade(text: string | Uint8Array) {
  writeFileSync(file, text);
  const { status, stdout, stderr } = await runCli(['loss', file, '--json', '--out', out]);
  expect(status, stderr).toBe(0);
  const { groups }: { groups: { group: string; size: number }[] } = JSON.parse(stdout);
  return {
    sizes: groups.map(({ group, size }) => [group, size]),
    lines: readFileSync(out, 'utf8').trimEnd().split('\n'),
  };
}

async function gather<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

describe('numbers', () => {
  test('ids of 64 bits keep their digits: as groups, and in the output', async () => {
    const ids = ['1234567890123456789', '1234567890123456790', '-9223372036854775808', '"1234567890123456789"', '7'];
    const line = (id: string, i: number) =>
      `{"group":${id},"reward":${i % 2},"logprobs":[-1],"seed":18446744073709551615}`;
    const { sizes, lines } = await grade(ids.map(line).join('\n'));
    expect(sizes).toEqual([
      ['1234567890123456789', 2], // one group with the string of the same digits
      ['1234567890123456790', 1],
      ['-9223372036854775808', 1],
      ['7', 1],
    ]);
    lines.forEach((written, i) => {
      expect(written.startsWith(`${line(ids[i], i).slice(0, -1)},"score":-1,"grad_logprobs":[`), written).toBe(true);
    });
  });

  test('keys in either spelling, and not both', () => {
    const line = { group: 'q', reward: 1, logProbs: [-1, -2], oldLogProbs: [-3, -4], token_weights: [1, 0] };
    const { logProbs, oldLogProbs, tokenWeights } = parseRollout(JSON.stringify(line));
    expect([logProbs, oldLogProbs, tokenWeights].map((array) => Array.from(array!))).toEqual([
      [-1, -2],
      [-3, -4],
      [1, 0],
    ]);
    const wrong = (more: object) => () => parseRollout(JSON.stringify({ ...line, ...more }));
    expect(wrong({ logprobs: [-1, -2] })).toThrow('"logprobs": expected that or "logProbs", got both');
    expect(wrong({ oldLogProbs: [-3] })).toThrow('"oldLogProbs": expected 2 values, as many as "logprobs", got 1');
  });

  test('a group that is no whole number is what was written', () => {
    const group = (text: string) => parseRollout(`{"group": ${text} ,"reward":1,"logprobs":[]}`).group;
    expect(['7', '7.0', '7e0', '-0', '0.5', '1e999', '0.12345678901234567891'].map(group)).toEqual([
      '7',
      '7',
      '7',
      '0',
      '0.5',
      '1e999',
      '0.12345678901234567891',
    ]);
  });

  test.each([
    ['"reward":9007199254740993,"logprobs":[]', '"reward": expected a number that float64 holds, got 9007199254740993'],
    ['"reward":1,"advantage":-9007199254740993,"logprobs":[]', '"advantage": expected a number that float64 holds'],
    ['"reward":1,"logprobs":[ -1e30 , 9007199254740993 ]', '"logprobs"[1]: expected a number that float64 holds'],
  ])('what float64 would round is refused: %s', (members, message) => {
    expect(() => parseRollout(`{"group":1,${members}}`)).toThrow(message);
  });

  test('large ones that float64 holds are not, nor an infinity by another name', () => {
    const rollout = parseRollout('{"group":1,"reward":9007199254740994,"logprobs":[-1e30,-3.4028234663852886e+38]}');
    expect(rollout.reward).toBe(2 ** 53 + 2);
    expect([...rollout.logProbs]).toEqual([-1e30, -3.4028234663852886e38]);
  });
});

describe('the output', () => {
  test('has the members as they were written, and a score and a gradient in place of older ones', async () => {
    const line =
      '{"a\\"}":"\\u00e9\\\\", "score":{"old":[1]},"group":"q" ,"x":[ 1.50, {"score":2}],"reward":1,"logprobs":[-1.0]}';
    const { lines } = await grade(line);
    const gradient = JSON.stringify(JSON.parse(lines[0]).grad_logprobs);
    expect(lines[0]).toBe(
      `{"a\\"}":"\\u00e9\\\\","score":-1,"group":"q","x":[ 1.50, {"score":2}],"reward":1,"logprobs":[-1.0],"grad_logprobs":${gradient}}`,
    );
  });

  test('takes any depth of nesting', async () => {
    const nested = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
    const { sizes, lines } = await grade(`{"group":"q","reward":1,"logprobs":[-1],"extra":${nested}}`);
    expect(sizes).toEqual([['q', 1]]);
    expect(lines[0].includes(`"extra":${nested},"score":`)).toBe(true);
  });

  test('rawMembers is JSON.parse, member by member', () => {
    const objects = fc.dictionary(fc.string({ unit: 'binary' }), fc.jsonValue(), { maxKeys: 5 });
    const spaces = fc.constantFrom(undefined, 1, '\t\r');
    fc.assert(
      fc.property(objects, spaces, (object, space) => {
        const text = ` ${JSON.stringify(object, null, space)} `;
        const members = rawMembers(text);
        const values = [...members].map(([key, value]) => [key, JSON.parse(value)]);
        expect(Object.fromEntries(values)).toEqual(JSON.parse(text));
        expect(JSON.parse(objectText(members))).toEqual(JSON.parse(text));
      }),
    );
  });
});

describe('lines', () => {
  test('come out alike however the bytes arrive', async () => {
    const text = '\u{feff}{"a":"é🙂\u{2028}"}\r\n\n{"b":1}';
    const expected = [
      { line: 1, text: '{"a":"é🙂\u{2028}"}\r' },
      { line: 2, text: '' },
      { line: 3, text: '{"b":1}' },
    ];
    for (const size of [1, 2, 3, 7, 100]) {
      const bytes = Buffer.from(text);
      const chunks = Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) =>
        bytes.subarray(i * size, (i + 1) * size),
      );
      expect(await gather(readLines(chunks, 'x'))).toEqual(expected);
    }
    expect(await gather(readLines([text], 'x'))).toEqual(expected);
  });

  test('one that does not end is given up, not gathered', async () => {
    let given = 0;
    const endless = function* () {
      yield '{"group":"q","reward":1,"logprobs":[]}\n[';
      for (;;) {
        given++;
        yield '0,'.repeat(512);
      }
    };
    const lines = gather(readLines(endless(), 'x.jsonl', 2 ** 20));
    await expect(lines).rejects.toThrow(
      new UsageError('x.jsonl:2: expected a line of at most 1 MiB, got a longer one'),
    );
    expect(given).toBe(1024);
  });

  test.runIf(existsSync('/dev/zero'))('a device without lines ends with 2', async () => {
    const { status, stdout, stderr } = await runCli(['loss', '/dev/zero']);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toBe(
      `error: /dev/zero:1: expected a line of at most ${maxLineBytes / 2 ** 20} MiB, got a longer one\n`,
    );
  });

  test.each([
    ['Latin-1', Buffer.from('{"group":"\xe9","reward":1,"logprobs":[]}', 'latin1')],
    ['UTF-16', Buffer.from('\u{feff}{"group":"q","reward":1,"logprobs":[]}', 'utf16le')],
  ])('%s is not taken for UTF-8', async (_, bytes) => {
    writeFileSync(file, Buffer.concat([Buffer.from('\n'), bytes]));
    const { status, stderr } = await runCli(['loss', file]);
    expect({ status, stderr }).toEqual({
      status: 2,
      stderr: `error: ${file}:2: expected UTF-8, got bytes that are not\n`,
    });
  });

  test('whatever is not a rollout is a UsageError that begins with its place', async () => {
    const scraps = [
      '{',
      '}',
      '[',
      ']',
      '"',
      ':',
      ',',
      '\\',
      '\n',
      '\0',
      '-',
      '1e999',
      'null',
      '"group"',
      '"reward"',
      '"logprobs"',
    ];
    const text = fc
      .array(fc.oneof(fc.constantFrom(...scraps), fc.string({ unit: 'binary' })))
      .map((parts) => parts.join(''));
    await fc.assert(
      fc.asyncProperty(text, async (broken) => {
        const error = await readRollouts([broken, '\n{}'], 'x').catch((caught: unknown) => caught);
        expect(error).toBeInstanceOf(UsageError); // the last line at least
        expect((error as UsageError).message).toMatch(/^x:\d+: /);
      }),
    );
  });
});
