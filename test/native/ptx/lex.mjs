// PTX as tokens, each with its line.

/** @typedef {{ text: string, line: number }} Token */

export class PtxError extends Error {
  /** @param {string} message @param {{ file: string, line: number }} place */
  constructor(message, { file, line }) {
    super(`${file}:${line}: ${message}`);
    this.name = 'PtxError';
  }
}

const SPACE = /(?:\s|\/\/.*|\/\*[\s\S]*?\*\/)+/y;
const TOKEN = new RegExp(
  [
    '"[^"\\n]*"',
    '0[fF][0-9a-fA-F]{8}(?!\\w)', // a float32 by its bits
    '0[dD][0-9a-fA-F]{16}(?!\\w)',
    '0[xX][0-9a-fA-F]+U?(?!\\w)',
    '\\d+(?:\\.\\d+)?U?(?!\\w)',
    '\\.?[%$A-Za-z_][\\w$]*(?:(?:\\.|::)\\w+)*', // an opcode with its modifiers, a name, a directive
    '[{}()[\\],;:+\\-!|@=<>]',
  ].join('|'),
  'y',
);

/** @param {string} text */
const lineBreaks = (text) => text.split('\n').length - 1;

/** @param {string} text @param {string} file for messages @returns {Token[]} */
export function tokens(text, file) {
  const found = [];
  let line = 1;
  let at = 0;
  for (;;) {
    SPACE.lastIndex = at;
    const space = SPACE.exec(text)?.[0] ?? '';
    at += space.length;
    line += lineBreaks(space);
    if (at === text.length) return found;
    TOKEN.lastIndex = at;
    const token = TOKEN.exec(text)?.[0];
    if (token === undefined) throw new PtxError(`what is ${JSON.stringify(text.slice(at, at + 20))}?`, { file, line });
    found.push({ text: token, line });
    at += token.length;
  }
}
