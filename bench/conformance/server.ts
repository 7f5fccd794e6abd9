// A process that calls this package for a program in another language (bridge.py): frames come on stdin, and go to stdout.
// Request: { call: the name of a function that the package exports, arguments: [...] }; reply: { value }, or
// { error: { code, message } } where the function threw. Ends with its stdin.
import { pathToFileURL } from 'node:url';
import * as everything from '../../lib/index.js';
import { encodeFrame, FrameReader, type Message } from './frames.js';

const functions: Readonly<Record<string, unknown>> = everything;

/** The reply to one request. */
export async function answer({ call, arguments: given }: Message): Promise<Message> {
  try {
    const name = String(call);
    const called = Object.hasOwn(functions, name) ? functions[name] : undefined;
    if (typeof called !== 'function') return failure('ERR_OPTION', `the package has no function ${name}`);
    return { value: await called(...(given as unknown[])) };
  } catch (error) {
    const { code, message } = Object(error);
    return failure(String(code ?? 'none'), String(message ?? error));
  }
}

function failure(code: string, message: string): Message {
  return { error: { code, message } };
}

async function main(): Promise<void> {
  const reader = new FrameReader();
  for await (const chunk of process.stdin) {
    for (const request of reader.push(chunk)) {
      const frame = encodeFrame(await answer(request));
      if (!process.stdout.write(frame)) await new Promise((resolve) => process.stdout.once('drain', resolve));
    }
  }
}

// A test imports what is above.
if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) await main();
