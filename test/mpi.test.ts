// Ranks that are processes, under the mpirun of each MPI that there is. Each mpirun takes a second or so, so a case does much.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { openMpi } from '../lib/mpi/index.js';
import { launchedRanks } from '../lib/mpi/libraries.js';
import { failureOf, rlvrError } from './support/errors.js';
import {
  HAS_ADDON,
  isInstalled,
  isPresent,
  LAUNCHERS,
  mpirun as launch,
  REQUIRED,
  type Run,
  run,
} from './support/mpirun.js';

const program = fileURLToPath(new URL('./ranks/mpi-program.mjs', import.meta.url));

describe.each(LAUNCHERS)('$name', (launcher) => {
  const { command, own, other } = launcher;
  const here = isPresent(launcher);
  if (!here && !REQUIRED) console.warn(`mpi: no ${command} (or no addon): its ranks were not tested`);
  const mpirun = (ranks: number, ...args: string[]) => launch(launcher, ranks, program, ...args);

  /** All ranks end within 10 seconds of their first communicator, and not well. */
  async function fails(name: string, ...texts: (string | RegExp)[]): Promise<Run> {
    const ran = await mpirun(3, name);
    expect(ran.code, ran.output).not.toBe(0);
    const opened = (ran.lines as { open: number }[]).map(({ open }) => open);
    expect(opened.length, ran.output).toBeGreaterThan(0);
    expect(ran.end - Math.min(...opened)).toBeLessThan(10_000);
    for (const text of texts) expect(ran.output).toMatch(text);
    return ran;
  }

  describe.skipIf(!here && !REQUIRED)('under mpirun', () => {
    test('sums, maxima and lists, on 4 ranks and on parts of 1, 2 and 3', async () => {
      const { code, lines, output } = await mpirun(4, 'conformance');
      expect(code, output).toBe(0);
      const said = lines as {
        size?: number;
        wrong?: string[];
        color?: number;
        of?: number;
        rank?: number;
        turns?: number[];
      }[];
      expect(said.flatMap(({ wrong }) => wrong ?? [])).toEqual([]);
      expect(
        said
          .filter(({ size }) => size)
          .map(({ size }) => size)
          .sort(),
      ).toEqual([1, 2, 2, 2, 2, 3, 3, 3, 4, 4, 4, 4]);
      const halves = said.filter(({ color, size }) => color !== undefined && size === 2);
      for (const { of, rank } of halves) expect(rank).toBe(of! < 2 ? 1 : 0); // by their keys, descending
      const turns = said.flatMap((each) => (each.turns ? [each.turns] : []));
      expect(turns).toEqual(Array(4).fill(Array.from({ length: 20 }, (_, i) => 4 * i)));
    });

    test('a waiting rank leaves the event loop free, and its core to others', async () => {
      const { code, lines, output } = await mpirun(2, 'idle');
      expect(code, output).toBe(0);
      const [{ turns, cpu }] = lines as { turns: number; cpu: number }[];
      expect(turns).toBeGreaterThan(40); // of 150
      expect(cpu).toBeLessThan(0.75); // of the 1.5 seconds
    });

    test('arguments, and what follows the end of MPI', async () => {
      const { code, lines, output } = await mpirun(2, 'arguments');
      expect(code, output).toBe(0);
      for (const text of [
        'ERR_RANGE color: expected a whole number at least 0 and at most 2147483647, got -1',
        'ERR_RANGE key: expected a whole number at least -2147483647 and at most 2147483647, got 0.5',
        'ERR_RANK close: expected the asynchronous calls before it to be awaited, got 1 in progress',
        'ERR_DISPOSED allReduceSync: expected an open communicator, got a closed one',
      ])
        expect(lines.filter((line) => line === text)).toHaveLength(2);
      expect(
        output.match(/ERR_BACKEND library: expected lib\S+, which this process uses already, got libother.so/g),
      ).toHaveLength(2);
      expect(output.match(/ERR_RANK openMpi: .* reported MPI was ended in this process/g)).toHaveLength(2);
      expect(lines.filter((line) => JSON.stringify(line) === '[2,true]')).toHaveLength(4);
    });

    test('an exception on one rank ends all', async () => {
      await fails('throws', 'Error: broken here', 'rlvr-kernels: rank 2 of 3 ends');
      await fails('rejects', 'Error: broken here', 'rlvr-kernels: rank 2 of 3 ends');
    });

    test('a killed rank ends all', async () => {
      await fails('killed', /rank 2.*signal 9|EXIT STRING: Killed \(signal 9\)/);
    });

    test('a bad argument on one rank is an error on all', async () => {
      const texts = ['values: expected Float64Array, got an Array of length 1', /rlvr-kernels: rank \d of 3 ends/];
      await fails('bad argument', ...texts);
    });

    test('a rank that ends in the middle of a call ends all', async () => {
      await fails('in the middle', /rlvr-kernels: rank [01] of 3 ends with its communicators open \(exit code 1\)/);
    });

    test('a rank that ends well is closed for the others, wherever they wait', async () => {
      const { code, lines, output } = await mpirun(4, 'ends');
      expect(code, output).toBe(0);
      // Ranks 1, of a column with it, and 2 and 0, of rows; these two still have theirs.
      expect(lines.sort()).toEqual([...Array(4).fill('ERR_RANK rank 1 of 2 was closed'), 'accepted', 'accepted']);
    });

    test('another MPI is refused, where it is installed', async () => {
      const { code, lines, output } = await mpirun(2, 'alone', other);
      expect(code, output).toBe(0);
      const refusal = 'ERR_BACKEND library: expected the MPI of the launcher, which started 2 ranks (';
      const absent = 'ERR_BACKEND library: expected an MPI ';
      for (const line of lines as string[])
        expect(
          [refusal, absent].some((text) => line.startsWith(text)),
          line,
        ).toBe(true);
      expect(lines).toHaveLength(2);
    });

    test("the addon's own functions refuse junk on a communicator too", async () => {
      const { code, lines, output } = await run(process.execPath, [program, 'junk', own]);
      expect(code, output).toBe(0);
      expect(lines).toEqual([{ refused: expect.any(Number), failed: 0, sum: [1] }]);
      expect((lines[0] as { refused: number }).refused).toBeGreaterThan(250);
    });

    test.each([
      ['torchrun', ['TORCHELASTIC_RUN_ID=none', 'WORLD_SIZE=2', 'RANK=0']],
      ['srun without --mpi', ['SLURM_STEP_NUM_TASKS=2', 'SLURM_PROCID=0']],
    ])('%s, which starts no MPI, is refused', async (_name, environment) => {
      const { lines, output } = await run('env', [...environment, process.execPath, program, 'alone', own]);
      expect(lines, output).toEqual([
        expect.stringMatching(
          /^ERR_BACKEND library: expected the MPI of the launcher, which started 2 ranks \(mpirun,/,
        ),
      ]);
    });

    test('without a launcher there is one rank, on the main thread', async () => {
      const { code, lines, output } = await run(process.execPath, [program, 'alone', own]);
      expect(code, output).toBe(0);
      expect(lines).toEqual([
        {
          library: { file: own, version: expect.stringMatching(/^(Open MPI v|MPICH Version: )\d/) },
          size: 1,
          sum: [1],
        },
        'ERR_BACKEND openMpi: expected the main thread, with whose process MPI ends, got a worker',
      ]);
    });
  });
});

const compiler = process.env.CXX ?? 'g++';

test.runIf(HAS_ADDON && isInstalled('mpirun.mpich') && isInstalled(compiler))(
  'the ABI of MPI 5, on top of MPICH',
  async () => {
    const folder = mkdtempSync(join(tmpdir(), 'rlvr-mpi-'));
    const library = join(folder, 'libmpi_abi.so');
    const source = fileURLToPath(new URL('./ranks/standard_abi.cpp', import.meta.url));
    try {
      execFileSync(compiler, ['-std=c++20', '-shared', '-fPIC', source, '-o', library, '-ldl']);
      const conformance = await run('mpirun.mpich', ['-n', '4', process.execPath, program, 'conformance', library]);
      expect(conformance.code, conformance.output).toBe(0);
      expect((conformance.lines as { wrong?: string[] }[]).flatMap(({ wrong }) => wrong ?? [])).toEqual([]);
      expect(conformance.lines).toHaveLength(16);
      const others = await run('mpirun.mpich', ['-n', '2', process.execPath, program, 'arguments', library]);
      expect(others.code, others.output).toBe(0);
      expect(others.output.match(/^\[2,true\]$/gm)).toHaveLength(4);
    } finally {
      rmSync(folder, { recursive: true });
    }
  },
);

test('options', async () => {
  const refused = async (options: object, code: string, message: string) =>
    expect(await failureOf(() => openMpi(options))).toEqual(rlvrError(code, message));
  await refused({ com: 1 }, 'ERR_OPTION', 'com');
  await refused({ comm: 0.5 }, 'ERR_RANGE', 'comm: expected a whole number');
  await refused({ comm: '1' }, 'ERR_RANGE', 'comm: expected a number');
  await refused({ library: '' }, 'ERR_DTYPE', 'library: expected the name of a file');
  await refused([] as object, 'ERR_DTYPE', 'options: expected an object');
});

test.runIf(process.platform === 'linux' && HAS_ADDON)('a library that is not there, or is none', async () => {
  expect(await failureOf(() => openMpi({ library: 'libother.so' }))).toEqual(
    rlvrError('ERR_BACKEND', /^library: expected an MPI .*openmpi-bin.* got none: no libother\.so$/),
  );
  expect(await failureOf(() => openMpi({ library: 'libm.so.6' }))).toEqual(
    rlvrError('ERR_BACKEND', 'libm.so.6: it has no MPI_Get_library_version'),
  );
});

test('how many ranks a launcher says it started', () => {
  expect(launchedRanks({ OMPI_COMM_WORLD_SIZE: '4' })).toBe(4);
  expect(launchedRanks({ PMI_SIZE: '3', PMI_RANK: '0' })).toBe(3);
  expect(launchedRanks({ SLURM_STEP_NUM_TASKS: '8', SLURM_PROCID: '3' })).toBe(8);
  expect(launchedRanks({ TORCHELASTIC_RUN_ID: 'none', WORLD_SIZE: '16', RANK: '3' })).toBe(16);
  expect(launchedRanks({ TORCHELASTIC_RUN_ID: 'none', WORLD_SIZE: '16', OMPI_COMM_WORLD_SIZE: '2' })).toBe(2);
  expect(launchedRanks({ WORLD_SIZE: '16' })).toBe(undefined); // a variable that anything may have set
  expect(launchedRanks({})).toBe(undefined);
});
