// Words and how they are spoken, from the npm package of the CMU Pronouncing Dictionary.
import { dictionary } from 'cmu-pronouncing-dictionary';

export interface Pronounced {
  word: string;
  /** Each way to say it. */
  sounds: string[][];
}

/** Words of 3 to `longest` letters that are spoken with at most so many sounds, of 39; stress is left out. */
export function pronunciations(longest: number): Pronounced[] {
  const words = new Map<string, string[][]>();
  for (const [entry, sounds] of Object.entries(dictionary)) {
    const word = entry.replace(/\(\d+\)$/, ''); // `read(2)` is another way to say `read`
    if (!/^[a-z]{3,}$/.test(word) || word.length > longest) continue;
    const spoken = sounds.replace(/\d/g, '').split(' ');
    if (spoken.length > longest) continue;
    const known = words.get(word);
    if (known) known.push(spoken);
    else words.set(word, [spoken]);
  }
  return [...words].map(([word, sounds]) => ({ word, sounds }));
}
