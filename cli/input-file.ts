import { isUtf8 } from 'node:buffer';
import { createReadStream } from 'node:fs';
import { addAbortSignal, type Readable } from 'node:stream';
import { UsageError } from './errors.js';

/** What a file or a pipe gives, piece by piece. */
export type Chunks = AsyncIterable<Uint8Array | string> | Iterable<Uint8Array | string>;

/** A rollout of 700,000 tokens with all of its log-probs is shorter. A device such as /dev/zero never ends a line. */
export const maxLineBytes = 2 ** 26;

const lineFeed = 0x0a;

/** The bytes of a file, or (`-`) of standard input. */
export function openInput(path: string, signal: AbortSignal): Readable {
  return addAbortSignal(signal, path === '-' ? process.stdin : createReadStream(path));
}

/**
 * Lines, numbered from 1; a line that is too long or not UTF-8 is a UsageError that names it. They end at \n, and only
 * there: `node:readline` also splits at U+2028, which JSON allows inside a string.
 */
export async function* readLines(
  chunks: Chunks,
  source: string,
  maxBytes = maxLineBytes,
): AsyncGenerator<{ readonly line: number; readonly text: string }> {
  let line = 1;
  let pending: Uint8Array[] = [];
  let pendingBytes = 0;
  const add = (part: Uint8Array) => {
    pending.push(part);
    pendingBytes += part.length;
    if (pendingBytes > maxBytes) {
      throw new UsageError(`${source}:${line}: expected a line of at most ${mebibytes(maxBytes)}, got a longer one`);
    }
  };
  const take = () => {
    const text = decode(pending, `${source}:${line}: `);
    pending = [];
    pendingBytes = 0;
    return { line: line++, text };
  };
  for await (const chunk of chunks) {
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk;
    let start = 0;
    for (let end = bytes.indexOf(lineFeed); end !== -1; end = bytes.indexOf(lineFeed, start)) {
      add(bytes.subarray(start, end));
      yield take();
      start = end + 1;
    }
    add(bytes.subarray(start));
  }
  yield take();
}

/** All of a text that has to be in memory at once. */
export async function readText(chunks: Chunks, maxBytes: number): Promise<string> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of chunks) {
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk;
    length += bytes.length;
    if (length > maxBytes) throw new UsageError(`expected at most ${mebibytes(maxBytes)}, got more`);
    parts.push(bytes);
  }
  return decode(parts);
}

/** A byte order mark is no part of the text. */
function decode(parts: readonly Uint8Array[], place = ''): string {
  const bytes = Buffer.concat(parts);
  if (!isUtf8(bytes)) throw new UsageError(`${place}expected UTF-8, got bytes that are not`);
  return bytes.toString().replace(/^\u{feff}/u, '');
}

function mebibytes(bytes: number): string {
  return `${bytes / 2 ** 20} MiB`;
}
