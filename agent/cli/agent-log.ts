import { type Logger, pino } from 'pino';

/** The agent's log, on standard error. A reader who is slow holds up nobody. */
export function agentLog(): Logger {
  const stderr = pino.destination(2);
  // no more of it than `write`: for a fatal line, pino would flush at once what waits, past a line that is being written
  return pino({ base: null }, { write: (line) => stderr.write(line) });
}
