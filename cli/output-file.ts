import { randomUUID } from 'node:crypto';
import { constants, type Stats } from 'node:fs';
import { access, type FileHandle, open, readlink, realpath, rename, rm, stat } from 'node:fs/promises';
import { dirname, join, resolve, sep } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { isClosedPipe, isSystemError, UsageError } from './errors.js';

/** Text that waits before it is written: large enough to keep system calls few. */
const flushLength = 1 << 16;
const standardOutput = '/dev/stdout';

/**
 * The option that writes to standard output (`-`), in place of tables; two of them would run into each other. `files`: what
 * each option was given.
 */
export function onStandardOutput(files: Readonly<Record<string, string | undefined>>): string | undefined {
  const [first, second] = Object.keys(files).filter((option) => files[option] === '-');
  if (second !== undefined) throw new UsageError(`${second}: expected a file, got -, where ${first} writes`);
  return first;
}

/**
 * A file that appears whole or not at all: it is written beside its place and renamed. `open` only checks, so that a path
 * that cannot be written is known before the work is done, and nothing lies around while it is.
 */
export class OutputFile {
  private constructor(
    private readonly option: string,
    readonly path: string,
    private readonly existing: Stats | undefined,
  ) {}

  static async open(option: string, path: string): Promise<OutputFile> {
    // Opened a second time, it would have an offset of its own, and a table would overwrite what was written before it.
    if (path === '-' || resolve(path) === standardOutput) return new OutputFile(option, standardOutput, undefined);
    if (path === '') throw new UsageError(`${option}: expected a file, got ''`);
    try {
      const existing = await stat(path).catch(() => undefined);
      if (existing?.isDirectory() || path.endsWith('/') || path.endsWith(sep)) {
        throw new UsageError(`${option}: expected a file, got the directory ${path}`);
      }
      if (existing !== undefined) await access(path, constants.W_OK);
      // A pipe or a device, such as /dev/null, is written to and never replaced.
      if (existing !== undefined && !existing.isFile()) return new OutputFile(option, path, existing);
      const target = await targetOf(path);
      await access(dirname(target), constants.W_OK);
      return new OutputFile(option, target, existing);
    } catch (error) {
      if (!isSystemError(error)) throw error;
      throw new UsageError(`${option}: expected a path that can be written, got ${path} (${error.message})`);
    }
  }

  /** Writes all of `parts`; on any error, and on an abort, the file is as it was before. */
  async write(parts: Iterable<string>, signal: AbortSignal): Promise<void> {
    if (this.path === standardOutput) return pipeline(Readable.from(parts), process.stdout, { end: false, signal });
    try {
      if (this.existing && !this.existing.isFile()) await writeTo(await open(this.path, 'w'), parts, signal);
      else await this.replace(parts, signal);
    } catch (error) {
      if (isClosedPipe(error)) return;
      if (!isSystemError(error)) throw error;
      throw new Error(`${this.option}: ${this.path} could not be written (${error.message})`, { cause: error });
    }
  }

  private async replace(parts: Iterable<string>, signal: AbortSignal): Promise<void> {
    // A name that no process had before this one: what another left behind is not in the way, nor taken for our own.
    const temporary = join(dirname(this.path), `.rlvr-kernels-${randomUUID()}.tmp`);
    const file = await open(temporary, 'wx', this.existing && this.existing.mode & 0o777);
    try {
      if (this.existing) await likeBefore(file, this.existing);
      await writeTo(file, parts, signal, true);
      await rename(temporary, this.path);
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
  }
}

/** What is written to when `path` is: the target of a symbolic link, also of one whose target is not there yet. */
async function targetOf(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    const link = await readlink(path).catch(() => undefined);
    if (link === undefined) return resolve(path);
    return targetOf(resolve(await realpath(dirname(path)), link));
  }
}

/** The permissions of the file that is replaced, which the umask may not narrow; its owner, where this process may do so. */
async function likeBefore(file: FileHandle, { uid, gid, mode }: Stats): Promise<void> {
  await file.chown(uid, gid).catch(() => {});
  await file.chmod(mode & 0o7777);
}

/** Writes and closes. `sync`: not before all of it is on the disk, which may turn out to be full. */
async function writeTo(file: FileHandle, parts: Iterable<string>, signal: AbortSignal, sync = false): Promise<void> {
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
    if (sync) await file.sync();
    signal.throwIfAborted();
  } finally {
    await file.close();
  }
}
