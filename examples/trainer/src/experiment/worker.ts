// A process that runs jobs of the experiment, one after the other, as its parent sends them.
import { load } from '../checkpoint.js';
import { fromWarmStart, train } from '../run.js';
import type { Settings } from '../settings.js';

export interface Order {
  folder: string;
  settings: Settings;
  /** The checkpoint that it begins with; without one, with the first weights. */
  warmStart?: string | undefined;
}

process.on('message', async ({ folder, settings, warmStart }: Order) => {
  try {
    await train(settings, { folder }, warmStart === undefined ? undefined : fromWarmStart(load(warmStart), settings));
    process.send?.('done');
  } catch (error) {
    console.error(folder, error);
    process.exit(1);
  }
});
