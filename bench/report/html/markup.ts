// HTML that escapes what is put into it, so that forgetting to is not possible.
import { printable } from '../printable.js';

export class Markup {
  constructor(readonly text: string) {}
}

export type Content = string | number | Markup | readonly Content[];

/** A template whose values are escaped; lists are joined, and other markup stays as it is. */
export function html(strings: TemplateStringsArray, ...values: readonly Content[]): Markup {
  return new Markup(strings.reduce((text, part, i) => `${text}${escapeContent(values[i - 1])}${part}`));
}

function escapeContent(content: Content): string {
  if (content instanceof Markup) return content.text;
  if (Array.isArray(content)) return content.map(escapeContent).join('');
  return escapeHtml(printable(String(content)));
}

function escapeHtml(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll("'", '&#39;');
}

/** JSON that no string in it can end the script element with. */
export function jsonForScript(value: unknown): Markup {
  const escapes: Record<string, string> = { '<': '\\u003c', '>': '\\u003e', '&': '\\u0026' };
  return new Markup(JSON.stringify(value).replace(/[<>&]/g, (character) => escapes[character]));
}
