// Where the peers are: packages that bench/peers/package.json names, installed there when asked for, and Python scripts.
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { packageRoot } from '../../lib/package-root.js';

/** The folder in the checkout, of which tsc puts only the code into dist/. */
export const peersFolder = join(packageRoot(), 'bench', 'peers');

/** A peer's package; throws where it is not installed. */
export const requirePeer = createRequire(join(peersFolder, 'package.json'));
