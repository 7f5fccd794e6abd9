// Rows of logits in WebAssembly, by blocks: what is copied at a time stays small, threads share them out, and an asynchronous call pauses
// between them. A row's results do not depend on the block it is in, nor on the thread.
import { PAUSE, type Sliced } from '../slices.js';
import type { WasmInstance } from './wasm-module.js';
import type { Block, Given, Threads } from './wasm-threads.js';
import type { WasmViews } from './wasm-views.js';

const BLOCK = 2 ** 20; // bytes of logits: what was copied is still in a cache when the kernel reads it
const SHARED_OUT = 8; // blocks; fewer would not be worth starting threads for

/** Where kernels of rows run. */
export interface Place {
  instance: WasmInstance;
  threads: Threads;
}

/** The call for rows [begin, end), in the given memory. */
type Prepare = (memory: WasmViews, begin: number, end: number) => Block;

/** Does one block of rows after the other, here and on other threads. */
export function* overRows(
  { instance, threads }: Place,
  { tokens, vocab }: { tokens: number; vocab: number },
  prepare: Prepare,
): Sliced<void> {
  const rows = Math.max(1, Math.floor(BLOCK / (vocab * Float32Array.BYTES_PER_ELEMENT)));
  const others = tokens > SHARED_OUT * rows ? threads.others : [];
  const here = ({ begin, end }: { begin: number; end: number }) => {
    const { call, kernel, finish } = prepare(instance, begin, end);
    call.run(instance, kernel);
    finish?.();
  };
  let given: Given[] = [];
  const collect = () => {
    const over = given.filter((block) => block.isOver());
    given = given.filter((block) => !over.includes(block));
    for (const block of over) if (!block.collect()) here(block);
  };
  try {
    for (let begin = 0; begin < tokens; ) {
      if (begin > 0) yield PAUSE;
      collect();
      for (const thread of others) {
        while (begin + rows < tokens) {
          const taken = thread.take(begin, begin + rows, (memory) => prepare(memory, begin, begin + rows));
          if (!taken) break;
          given.push(taken);
          begin += rows;
        }
      }
      const end = Math.min(begin + rows, tokens);
      here({ begin, end });
      begin = end;
    }
    for (; given.length > 0; collect()) {
      yield PAUSE;
      given[0].wait();
    }
  } finally {
    for (const block of given) block.abandon();
  }
}
