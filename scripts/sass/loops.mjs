// Finds a kernel's hot loop: its instructions as a graph of blocks, the natural loops of that graph, and of those the one
// with the most exponentials.

/** @typedef {import('./instructions.mjs').Instruction} Instruction */
/**
 * @typedef {object} Block a run of instructions that is entered at its first and left at its last
 * @property {Instruction[]} code
 * @property {number[]} next indices of blocks
 */
/** @typedef {{ header: number, latches: number[], body: Set<number> }} Loop by indices of blocks; `latches` jump back */
/** @typedef {{ every: Instruction[], rare: Instruction[], rareParts: number }} LoopCode */

/** Bytes of global memory to one rare part at most: what a thread reads at a time, at the least. */
const CHUNK = 64;

/**
 * The addresses of a jump table (BRX) are not read: it is taken to lead to all blocks that nothing else leads to.
 *
 * @param {Instruction[]} code @returns {Block[]}
 */
export function blocksOf(code) {
  const starts = new Set([0]);
  for (const [i, { target, falls }] of code.entries()) {
    if (target !== undefined) starts.add(target);
    if (target !== undefined || !falls) starts.add(i + 1);
  }
  const order = [...starts].filter((start) => start < code.length).sort((a, b) => a - b);
  const indexOf = new Map(order.map((start, i) => [start, i]));
  const blocks = order.map((start, i) => {
    const end = order[i + 1] ?? code.length;
    const { target, falls } = code[end - 1];
    const next = [target, falls ? end : undefined].map((at) => (at === undefined ? undefined : indexOf.get(at)));
    return { code: code.slice(start, end), next: next.filter((at) => at !== undefined) };
  });
  const led = new Set([0, ...blocks.flatMap(({ next }) => next)]);
  const others = blocks.map((_, at) => at).filter((at) => !led.has(at));
  for (const block of blocks) if (block.code.at(-1)?.op === 'BRX') block.next.push(...others);
  return blocks;
}

/** The blocks that can be reached. @param {number} from @param {(at: number) => number[]} next @returns {Set<number>} */
function reach(from, next) {
  const seen = new Set([from]);
  for (const at of seen) for (const to of next(at)) seen.add(to); // a Set's loop also visits what is added meanwhile
  return seen;
}

/** Whether every way from block `from` to block `to` leads through block `by`. @param {(at: number) => number[]} next */
function mustPass(/** @type {number} */ from, /** @type {number} */ by, /** @type {number} */ to, next) {
  if (from === by || to === by) return true;
  return !reach(from, (at) => next(at).filter((one) => one !== by)).has(to);
}

/** @param {Block[]} blocks @returns {Loop[]} */
function naturalLoops(blocks) {
  /** @type {number[][]} */
  const previous = blocks.map(() => []);
  for (const at of reach(0, (one) => blocks[one].next)) for (const to of blocks[at].next) previous[to].push(at);
  return blocks.flatMap((_, header) => {
    const latches = previous[header].filter((from) => mustPass(0, header, from, (at) => blocks[at].next));
    if (latches.length === 0) return [];
    const body = new Set(latches.flatMap((latch) => [...reach(latch, (at) => (at === header ? [] : previous[at]))]));
    return [{ header, latches, body: body.add(header) }];
  });
}

/** @param {Block[]} blocks @param {Iterable<number>} which */
const exponentials = (blocks, which) =>
  [...which].flatMap((at) => blocks[at].code).filter(({ op }) => op === 'MUFU.EX2').length;

/** @param {Block[]} blocks @param {Loop} loop */
const storesIn = (blocks, { body }) => [...body].some((at) => blocks[at].code.some(({ op }) => op === 'STG'));

/**
 * Of the innermost loops with exponentials, the one with the most: what is around it runs once a row or a tile.
 *
 * @param {Block[]} blocks @param {boolean} [stores] of those that write to global memory, or of those that do not
 */
export function hotLoop(blocks, stores) {
  const loops = naturalLoops(blocks)
    .filter((loop) => stores === undefined || storesIn(blocks, loop) === stores)
    .map((loop) => ({ loop, count: exponentials(blocks, loop.body) }));
  const withExponentials = loops.filter(({ count }) => count > 0);
  const innermost = withExponentials.filter(
    ({ loop }) => !withExponentials.some(({ loop: other }) => other !== loop && loop.body.has(other.header)),
  );
  return innermost.sort((a, b) => b.count - a.count).at(0)?.loop;
}

/** The blocks of one iteration that an iteration may skip, by the block through which they are entered. */
function skippable(/** @type {Block[]} */ blocks, /** @type {Loop} */ { header, latches, body }) {
  const next = (/** @type {number} */ at) => blocks[at].next.filter((to) => body.has(to) && to !== header);
  return [...body]
    .filter((entry) => latches.some((latch) => !mustPass(header, entry, latch, next)))
    .map((entry) => [...body].filter((at) => mustPass(header, entry, at, next)));
}

/**
 * Tells a loop's rare parts from the rest, for the step that moves a running reference: the largest sets of blocks that an
 * iteration may skip, that are entered through one block, and that hold no exponential. There is one at most for each
 * CHUNK that it reads, so that a branch per element is not taken for rare.
 *
 * @param {Block[]} blocks @param {Loop} loop @returns {LoopCode}
 */
export function loopCode(blocks, loop) {
  const codeOf = (/** @type {number[]} */ which) => which.flatMap((at) => blocks[at].code);
  const candidates = skippable(blocks, loop)
    .filter((part) => exponentials(blocks, part) === 0)
    .sort((a, b) => codeOf(b).length - codeOf(a).length);
  const bytes = codeOf([...loop.body]).reduce((sum, { loadBytes = 0 }) => sum + loadBytes, 0);
  /** @type {number[][]} */
  const parts = [];
  for (const part of candidates)
    if ((parts.length + 1) * CHUNK <= bytes && !parts.flat().some((at) => part.includes(at))) parts.push(part);
  const every = [...loop.body].filter((at) => !parts.flat().includes(at));
  return { every: codeOf(every), rare: codeOf(parts.flat()), rareParts: parts.length };
}
