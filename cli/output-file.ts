import { constants } from 'node:fs';
import { access, type FileHandle, open, realpath, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { UsageError } from './errors.js';

/** Text that waits before it is written: large enough to keep system calls few. */
const flushLength = 1 << 16;
const standardOutput = '/dev/stdout';

/**
 * A file that appears whole or not at all: it is written beside its place and renamed. `open` only checks, so that a path
 * that cannot be written is known before the work is done, and nothing lies around while it is.
 */
export class OutputFile {
  private constructor(
    readonly path: string,
    /** A pipe or a device, such as /dev/null, is written to and never replaced. */
    private readonly special: boolean,
    private readonly mode: number,
  ) {}

  static async open(option: string, path: string): Promise<OutputFile> {
    if (resolve(path) === standardOutput) return new OutputFile(standardOutput, true, 0);
    // A symbolic link keeps pointing where it does: its target is what is replaced.
    const target = await realpath(path).catch(() => resolve(path));
    const existing = await stat(target).catch(() => undefined);
    if (existing?.isDirectory()) throw new UsageError(`${option}: expected a file, got the directory ${path}`);
    const special = existing !== undefined && !existing.isFile();
    try {
      await access(special ? target : dirname(target), constants.W_OK);
    } catch (error) {
      throw new UsageError(`${option}: expected a path that can be written, got ${path} (${(error as Error).message})`);
    }
    return new OutputFile(target, special, (existing?.mode ?? 0o666) & 0o777);
  }

  /** Writes all of `parts`; on any error, and on an abort, the file is as it was before. */
  async write(parts: Iterable<string>, signal: AbortSignal): Promise<void> {
    // Opened a second time, it would have an offset of its own, and the table would overwrite the lines.
    if (this.path === standardOutput) return pipeline(Readable.from(parts), process.stdout, { end: false, signal });
    if (this.special) return writeParts(await open(this.path, 'w'), parts, signal);
    const temporary = join(dirname(this.path), `.${basename(this.path)}.${process.pid}.tmp`);
    try {
      await writeParts(await open(temporary, 'wx', this.mode), parts, signal);
      await rename(temporary, this.path);
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
  }
}

async function writeParts(file: FileHandle, parts: Iterable<string>, signal: AbortSignal): Promise<void> {
  try {
    let pending = '';
    for (const part of parts) {
      pending += part;
      if (pending.length < flushLength) continue;
      signal.throwIfAborted();
      await file.writeFile(pending);
      pending = '';
    }
    await file.writeFile(pending);
    signal.throwIfAborted();
  } finally {
    await file.close();
  }
}
