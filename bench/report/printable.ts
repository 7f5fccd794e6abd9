/** Names come from users and from files. Control characters, and those that turn the direction of writing, would change what a
 * reader sees around them, or do things to a terminal. */
export function printable(text: string): string {
  return text.replace(/\p{C}/gu, '\u{fffd}');
}
