// Opens the peers that are there, and says why the others are not.
import { openOnnxruntime } from './onnxruntime.mjs';
import { openTorch } from './torch.mjs';

/**
 * @typedef {import('../support/contenders.mjs').Arrays} Arrays
 * @typedef {import('../support/data.mjs').Problem} Problem
 * @typedef {import('../support/timing.mjs').Contender} Contender
 * @typedef {object} Peer
 * @property {string} name
 * @property {string} version
 * @property {(problem: Problem, f32: Arrays) => Promise<Contender[]>} contenders for one shape; the last shape's are done with
 * @property {() => Promise<number>} cpuSeconds what it used so far outside this process
 * @property {() => Promise<void>} close
 * @typedef {{ name: string, reason: string }} AbsentPeer
 */

const OPENERS = { 'onnxruntime-node': openOnnxruntime, PyTorch: openTorch };

/**
 * @param {{ threads: number }} options
 * @returns {Promise<{ present: Peer[], absent: AbsentPeer[] }>}
 */
export async function openPeers(options) {
  /** @type {Peer[]} */
  const present = [];
  /** @type {AbsentPeer[]} */
  const absent = [];
  for (const [name, open] of Object.entries(OPENERS)) {
    try {
      present.push(await open(options));
    } catch (error) {
      absent.push({ name, reason: String(/** @type {Error} */ (error).message).split('\n')[0] });
    }
  }
  return { present, absent };
}
