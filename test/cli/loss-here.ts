import { Command } from 'commander';
import { vi } from 'vitest';
import { addLossCommand } from '../../cli/loss/command.js';

/** The command inside this process, which is a tenth of the work: for what its flags mean, not for how it ends. */
export async function lossHere(file: string, args: string[]) {
  const program = new Command().exitOverride();
  addLossCommand(program, new AbortController().signal);
  const write = vi.spyOn(process.stdout, 'write').mockReturnValue(true);
  try {
    await program.parseAsync(['loss', file, '--json', ...args], { from: 'user' });
    return JSON.parse(write.mock.calls.map(([text]) => text).join(''));
  } finally {
    write.mockRestore();
  }
}
