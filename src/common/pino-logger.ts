/** The logging port on pino; the only importer of it. Used by the command line for namesrv and broker processes. */
import { destination, type Logger as Pino, pino } from 'pino'
import type { Logger } from './logger.ts'

/** Writes JSON lines to stderr, so that stdout stays for data. */
export function createPinoLogger(level: string): Logger {
  return wrap(pino({ level, base: null, timestamp: () => `,"time":"${new Date().toISOString()}"` }, destination(2)))
}

function wrap(target: Pino): Logger {
  return {
    debug: (message, facts) => target.debug(facts ?? {}, message),
    info: (message, facts) => target.info(facts ?? {}, message),
    warn: (message, facts) => target.warn(facts ?? {}, message),
    error: (message, facts) => target.error(facts ?? {}, message),
    child: (facts) => wrap(target.child(facts)),
  }
}
