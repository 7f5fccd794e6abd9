// A JSON object as it is written, member by member. JSON.parse rounds the integers that float64 does not hold, and tells a
// reviver what was written from Node 21 on only. What is not asked for is passed on character by character.

/** Keys and the text of their values, in order. JSON.parse has accepted `text`, and it is an object. */
export function rawMembers(text: string): Map<string, string> {
  const members = new Map<string, string>();
  const marks = /["{}[\],]/g;
  let depth = 0; // counted, not descended into: no nesting is too deep
  let key: string | undefined;
  let start = 0; // of the value of `key`
  for (let mark = marks.exec(text); mark !== null; mark = marks.exec(text)) {
    const [sign] = mark;
    if (sign === '"') {
      const end = endOfString(text, mark.index);
      marks.lastIndex = end;
      if (depth !== 1 || key !== undefined) continue;
      key = JSON.parse(text.slice(mark.index, end)) as string;
      start = text.indexOf(':', end) + 1;
    } else if (sign === '{' || sign === '[') {
      depth++;
    } else {
      if (depth === 1 && key !== undefined) {
        members.set(key, text.slice(start, mark.index).trim());
        key = undefined;
      }
      if (sign !== ',') depth--;
    }
  }
  return members;
}

/** The way back. */
export function objectText(members: ReadonlyMap<string, string>): string {
  return `{${Array.from(members, ([key, value]) => `${JSON.stringify(key)}:${value}`).join(',')}}`;
}

/** Behind the quotation mark that ends the string which begins at `start`: the first after an even number of backslashes. */
function endOfString(text: string, start: number): number {
  for (let end = text.indexOf('"', start + 1); end !== -1; end = text.indexOf('"', end + 1)) {
    let backslashes = 0;
    while (text[end - 1 - backslashes] === '\\') backslashes++;
    if (backslashes % 2 === 0) return end + 1;
  }
  return text.length;
}
