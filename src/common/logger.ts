/**
 * The logging port. Logs are events: a constant message with facts as fields; one `info` per state change, `debug`
 * per message, `error` only where a person should act. `pino-logger.ts` implements it for processes.
 */
export interface Logger {
  debug(message: string, facts?: Readonly<Record<string, unknown>>): void
  info(message: string, facts?: Readonly<Record<string, unknown>>): void
  warn(message: string, facts?: Readonly<Record<string, unknown>>): void
  error(message: string, facts?: Readonly<Record<string, unknown>>): void
  /** A logger that adds these facts to every line. */
  child(facts: Readonly<Record<string, unknown>>): Logger
}

/** Says nothing: for tests and for the SDK unless the user gives a logger. */
export const silentLogger: Logger = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  child: () => silentLogger,
}
