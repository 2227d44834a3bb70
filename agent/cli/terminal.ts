import picocolors from 'picocolors';

/** How things look to whoever reads standard output: colours where a person looks, and no wider than they can see. */

const { NO_COLOR, FORCE_COLOR } = process.env;

/** Colours, on a terminal or with FORCE_COLOR, and never with NO_COLOR (no-color.org). */
export const colours = picocolors.createColors(
  !NO_COLOR &&
    (FORCE_COLOR ? FORCE_COLOR !== '0' : process.stdout.isTTY === true && process.env.TERM !== 'dumb'),
);

const WIDTH = 100;
const NARROWEST = 60;

/** Columns of the terminal; COLUMNS comes first. */
export function terminalWidth(): number {
  const width = Number(process.env.COLUMNS) || process.stdout.columns || WIDTH;
  return Math.max(NARROWEST, width);
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: colours are control characters
const COLOUR = /\x1b\[\d+m/g;

/** How many columns a cell takes, colours not counted. */
const seen = (cell: string) => cell.replace(COLOUR, '').length;

/** To a width as seen, colours not counted. */
export function pad(cell: string, width: number): string {
  return cell + ' '.repeat(Math.max(0, width - seen(cell)));
}

const GAP = '  ';
/** A column is not made narrower than its words, unless they are longer than this or there is no room; nor than its head. */
const WORD = 16;

/** Rows below a head, in columns that fit the width: what is too long for its column goes on in the next line. */
export function tableOf(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  width = terminalWidth(),
): string {
  const all = [head, ...rows];
  const columns = head.map((_, i) => i);
  const widest = columns.map((i) => Math.max(...all.map((row) => seen(row[i] ?? ''))));
  const words = columns.map((i) =>
    Math.min(
      WORD,
      Math.max(...all.flatMap((row) => pieces(row[i] ?? '').map((piece) => seen(piece.trimEnd())))),
    ),
  );
  const widths = [...widest];
  const room = width - GAP.length * (columns.length - 1);
  for (const least of [words, head.map(seen)]) {
    let over = widths.reduce((sum, each) => sum + each, 0) - room;
    for (; over > 0; over--) {
      const can = columns.filter((i) => widths[i] > least[i]);
      if (can.length === 0) break;
      widths[can.reduce((a, b) => (widths[b] > widths[a] ? b : a))]--;
    }
  }
  const lines = all.flatMap((row, n) => {
    const cells = columns.map((i) => wrap(row[i] ?? '', widths[i]));
    const height = Math.max(...cells.map((cell) => cell.length));
    return Array.from({ length: height }, (_, line) => {
      const text = columns.map((i) => pad(cells[i][line] ?? '', widths[i])).join(GAP);
      return n === 0 ? colours.bold(text.trimEnd()) : text.trimEnd();
    });
  });
  return lines.map((line) => `${line}\n`).join('');
}

/** A text in the parts that a line may end after. */
const pieces = (text: string) => text.match(/[^\s/,]*(?:[/,]|\s+|$)/g)?.filter((piece) => piece !== '') ?? [];

/** The lines that a cell takes; each has the colour that the whole cell has. */
function wrap(cell: string, width: number): string[] {
  if (seen(cell) <= width) return [cell];
  const [before = '', after = ''] = cell.startsWith('\x1b') ? (cell.match(COLOUR) ?? []) : [];
  const lines: string[] = [];
  let line = '';
  for (let piece of pieces(cell.replace(COLOUR, ''))) {
    if (line !== '' && line.length + piece.trimEnd().length > width) {
      lines.push(line.trimEnd());
      line = '';
    }
    for (; piece.trimEnd().length > width; piece = piece.slice(width)) lines.push(piece.slice(0, width));
    line += piece;
  }
  if (line.trimEnd() !== '') lines.push(line.trimEnd());
  return lines.map((each) => `${before}${each}${after}`);
}
