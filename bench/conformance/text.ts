// Settings and calls as a reader would write them.
import type { LossTranslation } from '../../lib/translations/translation.js';

/** A function with its options. */
export interface Call extends Omit<LossTranslation, 'loss'> {
  loss: string;
}

/** Settings as Python has them: `loss_type="grpo", beta=0.04`. */
export function settingText(config: object): string {
  return Object.entries(config)
    .map(([name, value]) => `${name}=${pythonText(value)}`)
    .join(', ');
}

function pythonText(value: unknown): string {
  if (value === null) return 'None';
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  return JSON.stringify(value);
}

/** A translation as a call: `grpo(batch, { klCoef: 0.04, normalizer: 2 * tokens })`. */
export function callText({ loss, options, normalizer }: Call): string {
  const entries = Object.entries(options).map(([name, value]) => `${name}: ${optionText(value)}`);
  if (normalizer) {
    const { times, of } = normalizer;
    entries.push(`normalizer: ${times === 1 ? of : `${times} * ${of}`}`);
  }
  return entries.length === 0 ? `${loss}(batch)` : `${loss}(batch, { ${entries.join(', ')} })`;
}

function optionText(value: unknown): string {
  if (typeof value === 'string') return `'${value}'`;
  if (typeof value === 'number') return String(Number(value.toPrecision(4)));
  if (typeof value !== 'object' || value === null) return String(value);
  const entries = Object.entries(value).map(([name, item]) => `${name}: ${optionText(item)}`);
  return `{ ${entries.join(', ')} }`;
}

/** Options of which the numbers vary, which then stand as variables of their names: `{ klCoef, klWeight: 'ratio' }`. */
export function optionNames(options: Readonly<Record<string, unknown>>): string {
  const entries = Object.entries(options).map(([name, value]) =>
    typeof value === 'number' ? name : `${name}: ${optionText(value)}`,
  );
  return `{ ${entries.join(', ')} }`;
}
