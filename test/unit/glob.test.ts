import fc from 'fast-check';
import picomatch from 'picomatch';
import { describe, expect, it } from 'vitest';
import { determinise } from '../../agent/policy/dfa.js';
import { GlobError, literalPrefix, parseGlob } from '../../agent/policy/glob.js';
import { Nfa } from '../../agent/policy/nfa.js';
import { utf8Sequences } from '../../agent/policy/utf8.js';
import { name as anyName, pattern as anyPattern } from '../oracle/generate.js';
import { globMatches } from '../oracle/glob.js';

/** Whether the compiled pattern accepts a name, of text or of bytes. */
function accepts(pattern: string, name: string | Uint8Array): boolean {
  const nfa = new Nfa();
  nfa.accept(nfa.nodes(0, parseGlob(pattern).nodes), 0);
  const dfa = determinise(nfa, { states: 10_000, members: 100_000 });
  let state = dfa.start;
  for (const byte of typeof name === 'string' ? Buffer.from(name) : name) {
    let next = dfa.fallback[state];
    for (let e = dfa.edgeStart[state]; e < dfa.edgeStart[state + 1]; e++) {
      if (dfa.edgeByte[e] === byte) next = dfa.edgeTo[e];
    }
    state = next;
  }
  return dfa.accept[state] !== 0;
}

describe('a pattern', () => {
  it.each([
    ['/tmp/*', ['/tmp/a', '/tmp/.a'], ['/tmp', '/tmp/', '/tmp/a/b']],
    [
      '/tmp/**/*.sh',
      ['/tmp/a.sh', '/tmp/.sh', '/tmp/a/b.sh', '/tmp/a/b/c.sh'],
      ['/tmp.sh', '/tmp/a.shx', '/a/tmp/b.sh'],
    ],
    ['/tmp/**', ['/tmp/a', '/tmp/a/b'], ['/tmp', '/tmp/', '/tmpa']],
    ['/a**b', ['/ab', '/axb', '/ax/yb'], ['/a', '/axbc']],
    ['**/x', ['/x', '/a/x', '/a/b/x', 'x'], ['/xx', '/x/a']],
    ['/*/environ', ['/1/environ'], ['/environ', '//environ', '/1/2/environ']],
    ['/a?c', ['/abc', '/aéc', '/a€c', '/a😀c'], ['/ac', '/a/c', '/abbc']],
    ['/[a-c]x', ['/ax', '/cx'], ['/dx', '/x', '/Ax']],
    ['/[!a-c]x', ['/dx', '/éx'], ['/ax', '/x', '//x']],
    ['/[^a]', ['/b'], ['/a']],
    ['/[]a]', ['/]', '/a'], ['/b']],
    ['/[a-]', ['/a', '/-'], ['/b']],
    ['/[à-ü]', ['/é'], ['/e', '/\u0101']],
    ['/[+-0]x', ['/+x', '/0x'], ['//x']],
    ['/{a,b{c,d},}e', ['/ae', '/bce', '/bde', '/e'], ['/be', '/ce', '/abce']],
    ['/a{b/c,d}', ['/ab/c', '/ad'], ['/ab', '/a']],
    ['/\\*\\{\\\\', ['/*{\\'], ['/a{\\']],
    ['/a,b}', ['/a,b}'], ['/a']],
    ['/usr/bin/vim', ['/usr/bin/vim'], ['/usr/bin/vi', '/usr/bin/vimx']],
  ])('%s names what it says', (pattern, names, others) => {
    for (const name of names) expect([name, accepts(pattern, name)]).toEqual([name, true]);
    for (const name of others) expect([name, accepts(pattern, name)]).toEqual([name, false]);
  });

  it('takes bytes that are no text: "*" any, "?" and "[!a]" those that begin no character', () => {
    expect(accepts('/*', Buffer.from([0x2f, 0xc3, 0xff, 0x0a]))).toBe(true);
    expect(accepts('/?', Buffer.from([0x2f, 0xff]))).toBe(true);
    expect(accepts('/[!a]', Buffer.from([0x2f, 0xa9]))).toBe(true);
    expect(accepts('/?', Buffer.from([0x2f, 0xc3]))).toBe(false);
  });

  it.each([
    ['', 0],
    ['/a\\', 2],
    ['/[a', 1],
    ['/[]', 1],
    ['/{a,b', 1],
    ['/[z-a]', 2],
    ['/[/]', 2],
    ['/a\0', 2],
    [`/${'{'.repeat(100)}`, 65],
  ])('%j is refused, and the place told', (pattern, offset) => {
    let error: unknown;
    try {
      parseGlob(pattern);
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(GlobError);
    expect((error as GlobError).offset).toBe(offset);
  });

  it('has the literal prefix that ends at its first wildcard character', () => {
    const prefix = (pattern: string) => Buffer.from(literalPrefix(parseGlob(pattern))).toString();
    expect(prefix('/tmp/é*x')).toBe('/tmp/é');
    expect(prefix('/a\\*b{c,d}')).toBe('/a*b');
    expect(prefix('*')).toBe('');
    expect(prefix('/etc/passwd')).toBe('/etc/passwd');
  });

  it('matches what an independent library says, where both mean the same', () => {
    const part = fc
      .array(fc.constantFrom('a', 'b', 'ab', '.', '*', '?', '[ab]', '[^a]', '{a,b}', '{ab,b?}'), {
        minLength: 1,
        maxLength: 4,
      })
      .map((pieces) => pieces.join('').replaceAll(/\*+/g, '*'))
      .filter((each) => each !== '.' && each !== '..');
    const glob = fc
      .array(fc.oneof({ weight: 4, arbitrary: part }, { weight: 1, arbitrary: fc.constant('**') }), {
        minLength: 1,
        maxLength: 4,
      })
      // At either end of the pattern the library has its own idea of what no components are.
      .map((parts) => `/r/${parts.join('/')}`)
      .filter((each) => !each.endsWith('**'));
    const name = fc
      .array(fc.constantFrom('a', 'b', 'ab', 'bb', '.a', 'a.b', 'aab'), { minLength: 1, maxLength: 4 })
      .map((parts) => `/r/${parts.join('/')}`);
    fc.assert(
      fc.property(glob, fc.array(name, { minLength: 20, maxLength: 20 }), (pattern, names) => {
        const matches = picomatch(pattern, { dot: true, strictSlashes: true });
        for (const each of names)
          expect([pattern, each, accepts(pattern, each)]).toEqual([pattern, each, matches(each)]);
      }),
      { numRuns: 500 },
    );
  }, 60_000);

  it('matches what trying it character by character says', () => {
    fc.assert(
      fc.property(anyPattern, fc.array(anyName, { minLength: 20, maxLength: 20 }), (pattern, names) => {
        for (const each of names) {
          const got = accepts(pattern, Buffer.from(each, 'latin1'));
          expect([pattern, each, got]).toEqual([pattern, each, globMatches(pattern, each)]);
        }
      }),
      { numRuns: 500 },
    );
  }, 60_000);
});

describe('the byte sequences of a range of characters', () => {
  it('hold exactly the encodings of its members', () => {
    const code = fc.oneof(
      fc.integer({ min: 1, max: 0x10ffff }),
      fc.constantFrom(0x7f, 0x80, 0x7ff, 0x800, 0xffff, 0x10000),
    );
    const isScalar = (c: number) => c < 0xd800 || c > 0xdfff;
    fc.assert(
      fc.property(code, code, fc.array(code), (a, b, others) => {
        const range = { from: Math.min(a, b), to: Math.max(a, b) };
        const sequences = utf8Sequences(range);
        for (const c of [...others, a, b, range.from + 1, range.to - 1].filter(isScalar)) {
          const bytes = Buffer.from(String.fromCodePoint(c));
          const found = sequences.filter(
            (each) =>
              each.length === bytes.length * 2 &&
              bytes.every((byte, i) => each[i * 2] <= byte && byte <= each[i * 2 + 1]),
          );
          expect(found.length).toBe(range.from <= c && c <= range.to ? 1 : 0);
        }
      }),
      { numRuns: 2000 },
    );
  }, 60_000);
});
