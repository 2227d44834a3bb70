/**
 * JSON of plain characters: besides what JSON escapes, DEL and the control characters above ASCII, line separators and what
 * turns the direction of text are written as \uXXXX, so that a terminal or a line splitter that meets the text raw is not
 * steered by it. In one line, unless it is to be indented.
 */
export function safeJson(value: unknown, indent?: number): string {
  const json = JSON.stringify(value, undefined, indent);
  // nearly all is ASCII, which is told much faster than by looking for each
  if (Buffer.byteLength(json) === json.length && !json.includes('\x7f')) return json;
  return json.replace(STEERING, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
const STEERING = /[\x7f-\x9f\p{Bidi_Control}\u2028\u2029\ufeff]/gu;
