// Shapes to measure by default: vocabularies of models, and tokens that make an array far larger than a cache.
import type { TokenShape } from './data.js';

export const PRESETS = {
  'llama-2': { tokens: 512, vocab: 32000 },
  'gpt-2': { tokens: 512, vocab: 50257 },
  'llama-3': { tokens: 256, vocab: 128256 },
  'qwen-2.5': { tokens: 256, vocab: 151936 },
  'gemma-3': { tokens: 128, vocab: 262144 },
} satisfies Record<string, TokenShape>;

export type PresetName = keyof typeof PRESETS;

export const presetNames = Object.keys(PRESETS) as PresetName[];
export const defaultPresets: readonly PresetName[] = ['qwen-2.5', 'llama-2'];
export const defaultTokens = 256;
