/**
 * What every long-running command does: start, say that it is ready, wait for a signal, stop gracefully. A second
 * signal ends the process at once.
 */
import { LedgerError } from '../common/errors.ts'
import { printTalk } from './output.ts'

export interface Closable {
  close(): Promise<void>
}

export interface ServiceOptions {
  /** End when stdin ends: a parent that dies takes this process along. */
  readonly exitWithStdin: boolean
}

/** Resolves when the service has stopped. */
export async function runService(service: Closable, options: ServiceOptions): Promise<void> {
  await untilAsked(options)
  await service.close()
  // Whatever still holds the process open after a complete close must not keep its ports and locks.
  process.exit(process.exitCode ?? 0)
}

function untilAsked(options: ServiceOptions): Promise<void> {
  return new Promise((resolve) => {
    let asked = false
    const ask = (): void => {
      if (asked) process.exit(1)
      asked = true
      resolve()
    }
    process.on('SIGTERM', ask)
    process.on('SIGINT', ask)
    if (options.exitWithStdin) {
      process.stdin.resume()
      process.stdin.once('end', resolve)
      process.stdin.once('error', resolve)
    }
  })
}

/** The last words of a process that cannot go on. */
export function dieOf(error: Error): never {
  // A stack explains a bug; an event of life is explained by its code and hint.
  if (error instanceof LedgerError && error.code !== 'SYSTEM_ERROR') {
    printTalk(`FATAL ${error.code}: ${error.message}`)
    printTalk(`  ${error.hint}`)
    process.exit(70)
  }
  printTalk(`FATAL ${error.name}: ${error.message}`)
  if (error.stack) printTalk(error.stack)
  process.exit(70)
}
