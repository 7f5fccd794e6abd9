// Every loss under the mpirun of each MPI that there is: on several processes the same as on one.
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { isPresent, LAUNCHERS, mpirun, REQUIRED } from './support/mpirun.js';

const program = fileURLToPath(new URL('./ranks/losses-program.mjs', import.meta.url));

describe.each(LAUNCHERS)('$name', (launcher) => {
  test.skipIf(!isPresent(launcher) && !REQUIRED).each([2, 3, 4])('every loss on %d ranks', async (ranks) => {
    const { code, lines, output } = await mpirun(launcher, ranks, program);
    expect(code, output).toBe(0);
    const said = lines as { rank: number; wrong: string[] }[];
    expect(said.map(({ rank }) => rank).sort()).toEqual(Array.from({ length: ranks }, (_, rank) => rank));
    expect(said.flatMap(({ wrong }) => wrong)).toEqual([]);
  });
});
