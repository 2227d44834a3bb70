/**
 * CEF's grammar (version 0 of the header), read strictly: a header of seven parts between bare `|`, then `key=value`
 * pairs between blanks. A value ends where the next ` key=` begins; in it `=` and `\` stand escaped only, and there is no
 * control character.
 */
export interface Cef {
  readonly header: readonly string[];
  readonly extension: ReadonlyMap<string, string>;
}

export function parseCef(line: string): Cef {
  if (/\p{Cc}/u.test(line)) throw new Error('a control character');
  const header: string[] = [];
  let at = 0;
  let part = '';
  for (; at < line.length && header.length < 7; at++) {
    const c = line[at];
    if (c === '\\') {
      const next = line[++at];
      if (next !== '\\' && next !== '|') throw new Error(`\\${next} in the header`);
      part += next;
    } else if (c === '|') {
      header.push(part);
      part = '';
    } else part += c;
  }
  if (header.length !== 7) throw new Error(`${header.length} parts in the header`);
  if (header[0] !== 'CEF:0') throw new Error(`begins with ${header[0]}`);
  if (!/^([0-9]|10)$/.test(header[6] ?? '')) throw new Error(`severity ${header[6]}`);
  const extension = new Map<string, string>();
  const rest = line.slice(at);
  // bare equal signs are those after keys
  const signs = [...rest.matchAll(/(?:\\.)|=/g)].filter(([found]) => found === '=').map(({ index }) => index);
  const starts = signs.map((sign) => {
    const start = rest.lastIndexOf(' ', sign) + 1;
    if (!/^[A-Za-z0-9]+$/.test(rest.slice(start, sign))) throw new Error(`key "${rest.slice(start, sign)}"`);
    return start;
  });
  if (rest !== '' && starts[0] !== 0) throw new Error('the extension does not begin with a key');
  signs.forEach((sign, i) => {
    const key = rest.slice(starts[i], sign);
    const raw = rest.slice(sign + 1, i + 1 < starts.length ? (starts[i + 1] ?? 0) - 1 : undefined);
    const value = raw.replace(/\\(.)/g, (_, c: string) => {
      if (!'\\=nr'.includes(c)) throw new Error(`\\${c} in ${key}`);
      return c === 'n' ? '\n' : c === 'r' ? '\r' : c;
    });
    if (extension.has(key)) throw new Error(`${key} twice`);
    extension.set(key, value);
  });
  return { header, extension };
}
