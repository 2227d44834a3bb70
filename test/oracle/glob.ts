/**
 * Patterns matched the slow way: braces written out, then tried character by character with backtracking. Made from
 * what patterns mean, with nothing of the compiler in it. Only for well-formed patterns, short ones.
 */
import type { Name } from './request.js';

/** UTF-8, one character of 0-255 per byte. */
export function latin1(text: string): Name {
  return Buffer.from(text).toString('latin1');
}

/** The text before the first wildcard character, escapes resolved. */
export function literalText(pattern: string): string {
  let text = '';
  for (let i = 0; i < pattern.length && !'*?[{'.includes(pattern[i]); i++) {
    if (pattern[i] === '\\') i++;
    text += pattern[i];
  }
  return text;
}

export function globMatches(pattern: string, name: Name): boolean {
  return writtenOut(tokenise(pattern), true, true).some((tokens) => matches(tokens, 0, name, 0));
}

type Token =
  | { readonly is: 'literal'; readonly text: Name }
  | { readonly is: 'set'; readonly has: (code: number) => boolean; readonly stray: boolean }
  | { readonly is: 'star'; readonly deep: boolean }
  | { readonly is: '{' | ',' | '}' }
  /** What a star means: a run of at least `least` bytes, or whole components. */
  | { readonly is: 'run'; readonly deep: boolean; readonly least: number }
  | { readonly is: 'components' };

function tokenise(pattern: string): Token[] {
  const tokens: Token[] = [];
  const characters = [...pattern];
  let depth = 0;
  for (let i = 0; i < characters.length; i++) {
    const c = characters[i];
    if (c === '\\') tokens.push({ is: 'literal', text: latin1(characters[++i]) });
    else if (c === '*') {
      const from = i;
      while (characters[i + 1] === '*') i++;
      tokens.push({ is: 'star', deep: i > from });
    } else if (c === '?') tokens.push({ is: 'set', has: (code) => code !== 0x2f, stray: true });
    else if (c === '[') {
      const negated = '!^'.includes(characters[i + 1]);
      const from = i + (negated ? 2 : 1);
      let members = '';
      for (i = from; i === from || characters[i] !== ']'; i++) members += characters[i];
      tokens.push({ is: 'set', has: inSet([...members], negated), stray: negated });
    } else if (c === '{') {
      depth++;
      tokens.push({ is: '{' });
    } else if (depth > 0 && c === ',') tokens.push({ is: ',' });
    else if (depth > 0 && c === '}') {
      depth--;
      tokens.push({ is: '}' });
    } else tokens.push({ is: 'literal', text: latin1(c) });
  }
  return tokens;
}

/** Members and ranges, without escapes. */
function inSet(members: readonly string[], negated: boolean): (code: number) => boolean {
  return (code) => {
    if (code === 0x2f) return false;
    let found = false;
    for (let i = 0; i < members.length; i++) {
      const isRange = members[i + 1] === '-' && i + 2 < members.length;
      const from = members[i].codePointAt(0) as number;
      const to = isRange ? (members[i + 2].codePointAt(0) as number) : from;
      if (from <= code && code <= to) found = true;
      if (isRange) i += 2;
    }
    return found !== negated;
  };
}

const isSlash = (token: Token | undefined) => token?.is === 'literal' && token.text === '/';

/** Every way to take the braces, and in each what the stars mean, which what stands next to them as written tells. */
function writtenOut(tokens: readonly Token[], opens: boolean, closes: boolean): Token[][] {
  const brace = tokens.findIndex(({ is }) => is === '{');
  if (brace < 0) return [settled(tokens, opens, closes)];
  const options: Token[][] = [[]];
  let depth = 0;
  let end = brace;
  for (; ; end++) {
    const token = tokens[end];
    if (token.is === '{' && depth++ === 0) continue;
    if (token.is === '}' && --depth === 0) break;
    if (token.is === ',' && depth === 1) options.push([]);
    else options[options.length - 1].push(token);
  }
  const before = tokens.slice(0, brace);
  const after = tokens.slice(end + 1);
  const inOpens = before.length > 0 ? isSlash(before.at(-1)) : opens;
  const inCloses = after.length > 0 ? isSlash(after[0]) : closes;
  const heads = settled(before, opens, false);
  const tails = writtenOut(after, false, closes);
  return options
    .flatMap((option) => writtenOut(option, inOpens, inCloses))
    .flatMap((middle) => tails.map((tail) => [...heads, ...middle, ...tail]));
}

function settled(tokens: readonly Token[], opens: boolean, closes: boolean): Token[] {
  const out: Token[] = [];
  for (let i = 0; i < tokens.length; i++) {
    const token = tokens[i];
    if (token.is !== 'star') {
      out.push(token);
      continue;
    }
    const begins = i === 0 ? opens : isSlash(tokens[i - 1]);
    const ends = i === tokens.length - 1 ? closes : isSlash(tokens[i + 1]);
    if (token.deep && begins && isSlash(tokens[i + 1])) {
      out.push({ is: 'components' });
      i++;
    } else out.push({ is: 'run', deep: token.deep, least: begins && ends ? 1 : 0 });
  }
  return out;
}

function matches(tokens: readonly Token[], i: number, name: Name, at: number): boolean {
  if (i === tokens.length) return at === name.length;
  const token = tokens[i];
  switch (token.is) {
    case 'literal':
      return name.startsWith(token.text, at) && matches(tokens, i + 1, name, at + token.text.length);
    case 'set': {
      for (let length = 1; length <= 4; length++) {
        const bytes = Buffer.from(name.slice(at, at + length), 'latin1');
        const text = bytes.toString();
        if (bytes.length !== length || [...text].length !== 1 || !Buffer.from(text).equals(bytes)) continue;
        return token.has(text.codePointAt(0) as number) && matches(tokens, i + 1, name, at + length);
      }
      const byte = name.charCodeAt(at);
      const beginsNothing = (byte >= 0x80 && byte <= 0xc1) || byte >= 0xf5;
      return token.stray && beginsNothing && matches(tokens, i + 1, name, at + 1);
    }
    case 'run':
      for (let end = at; end <= name.length; end++) {
        if (end > at && !token.deep && name[end - 1] === '/') return false;
        if (end - at >= token.least && matches(tokens, i + 1, name, end)) return true;
      }
      return false;
    case 'components':
      if (matches(tokens, i + 1, name, at)) return true;
      for (let end = at; end < name.length; end++) {
        if (name[end] === '/' && matches(tokens, i + 1, name, end + 1)) return true;
      }
      return false;
    default:
      throw new Error('braces have been written out');
  }
}
