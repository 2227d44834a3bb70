import { type Document, isCollection, isScalar, type Node, visit } from 'yaml';

/** One fault of YAML as such. */
export interface SyntaxFault {
  readonly offset: number;
  readonly message: string;
}

/**
 * The fault that keeps a document from being read, in people's words: the first one, since those after it are mostly its
 * echo. What is never closed is told of where it is opened.
 */
export function syntaxFault(document: Document.Parsed, text: string): SyntaxFault | undefined {
  const [error] = document.errors;
  if (error === undefined) return undefined;
  const [offset] = error.pos;
  const [said = ''] = error.message.split('\n');
  const quote = /^Missing closing (["'])/.exec(said)?.[1];
  if (quote !== undefined) {
    const opened = lastNode(document, (node) => isScalar(node) && node.range?.[1] === offset);
    return { offset: opened ?? offset, message: `the quote ${quote} is never closed; close it` };
  }
  const flow = /^Flow (map|sequence) /.exec(said)?.[1];
  if (flow !== undefined) {
    const [open, close] = flow === 'map' ? '{}' : '[]';
    const opened = lastNode(document, (node) => {
      const [start, end] = node.range ?? [0, 0];
      return isCollection(node) && start < offset && text[start] === open && text[end - 1] !== close;
    });
    return {
      offset: opened ?? offset,
      message: `the bracket ${open} is never closed, or what is in it is not indented; write ${close}`,
    };
  }
  return { offset, message: WORDS[error.code]?.(text[offset] ?? '') ?? `${said}; correct it` };
}

/** Where the last node of a sort begins. */
function lastNode(document: Document.Parsed, holds: (node: Node) => boolean): number | undefined {
  let found: number | undefined;
  visit(document, {
    Node: (_, node) => {
      if (holds(node)) found = node.range?.[0];
    },
  });
  return found;
}

/** By the library's code, and the character at the place. */
const WORDS: Readonly<Record<string, (character: string) => string>> = {
  RESOURCE_EXHAUSTION: () => 'it nests too deeply; no policy needs that, so check the brackets',
  TAB_AS_INDENT: () => 'a tab does not indent; use spaces',
  BAD_INDENT: () => 'this is indented like nothing above it; line it up',
  BLOCK_AS_IMPLICIT_KEY: () => 'a second colon on one line; begin a new line, or put the value in quotes',
  MULTILINE_IMPLICIT_KEY: () => 'there is no colon after this; write name: value',
  MISSING_CHAR: () => 'there is no colon after this; write name: value',
  BLOCK_IN_FLOW: () => 'between brackets, commas stand between entries; one is missing here',
  UNEXPECTED_TOKEN: (character) => `"${character}" does not belong here; look at what stands before it`,
  BAD_SCALAR_START: (character) => `a value cannot begin with ${character}; put it in quotes`,
  BAD_DQ_ESCAPE: () => 'there is no such escape; double the backslash, or use single quotes',
  BAD_ALIAS: (character) => `${character} needs a name after it; if it is text, put it in quotes`,
};
