// Shapes to measure by default: vocabularies of models, and tokens that make an array far larger than a cache. `width` is that of
// the hidden states of one model with that vocabulary: Llama-2-7B, GPT-2, Llama-3.2-1B, Qwen2.5-0.5B, Gemma-3-1B.
import type { LinearShape } from './linear.js';

export const PRESETS = {
  'llama-2': { tokens: 512, vocab: 32000, width: 4096 },
  'gpt-2': { tokens: 512, vocab: 50257, width: 768 },
  'llama-3': { tokens: 256, vocab: 128256, width: 2048 },
  'qwen-2.5': { tokens: 256, vocab: 151936, width: 896 },
  'gemma-3': { tokens: 128, vocab: 262144, width: 1152 },
} satisfies Record<string, LinearShape>;

export type PresetName = keyof typeof PRESETS;

export const presetNames = Object.keys(PRESETS) as PresetName[];
export const defaultPresets: readonly PresetName[] = ['qwen-2.5', 'llama-2'];
export const defaultTokens = 256;
/** Of hidden states. The largest comes first: its arrays may not be collected before those of the next are made. */
export const defaultLinearPresets: readonly PresetName[] = ['llama-3', 'qwen-2.5', 'gpt-2'];
export const defaultLinearTokens = 512;
export const defaultWidth = 896;
