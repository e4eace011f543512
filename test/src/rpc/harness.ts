/** What the transport tests share: servers and channels that are closed after each test, and bounded waiting. */
import { afterEach } from 'vitest'
import { systemClock } from '../../../src/common/clock.ts'
import type { LedgerError } from '../../../src/common/errors.ts'
import type { Logger } from '../../../src/common/logger.ts'
import { silentLogger } from '../../../src/common/logger.ts'
import { createGrpcTransport, type GrpcTransportOptions } from '../../../src/rpc/grpc-transport.ts'
import type { Channel, Server, ServerRoutes, StreamHandlers } from '../../../src/rpc/transport.ts'

const opened: { servers: Server[]; channels: Channel[] } = { servers: [], channels: [] }

afterEach(async () => {
  for (const channel of opened.channels.splice(0)) channel.close()
  await Promise.all(opened.servers.splice(0).map((server) => server.close(0)))
})

export interface Bench {
  listen(register: (routes: ServerRoutes) => void, address?: string): Promise<Server>
  connect(address: string, purpose?: 'client' | 'control' | 'bulk'): Channel
}

export function bench(options: Partial<GrpcTransportOptions> = {}): Bench {
  // A server that gets no time to accept a stream is no dead one, unless the test says so.
  const limits = { openTimeoutMs: patienceMs, ...options.limits }
  const transport = createGrpcTransport({ clock: systemClock, logger: silentLogger, ...options, limits })
  return {
    async listen(register, address = '127.0.0.1:0') {
      const server = await transport.listen(address, register)
      opened.servers.push(server)
      return server
    },
    connect(address, purpose = 'client') {
      const channel = transport.connect(address, purpose)
      opened.channels.push(channel)
      return channel
    },
  }
}

/** Collects what a stream says. */
export class Recorder<In> implements StreamHandlers<In> {
  readonly messages: In[] = []
  readonly closed: (LedgerError | undefined)[] = []
  drains = 0

  onMessage(message: In): void {
    this.messages.push(message)
  }

  onDrain(): void {
    this.drains += 1
  }

  onClosed(error: LedgerError | undefined): void {
    this.closed.push(error)
  }
}

/** For what is meant to succeed. */
export const patienceMs = 60_000

/** Waits until the condition holds. */
export async function until(condition: () => boolean): Promise<void> {
  const start = performance.now()
  while (!condition()) {
    if (performance.now() - start > patienceMs) throw new Error(`not within ${patienceMs} ms: ${condition.toString()}`)
    await new Promise((resolve) => setImmediate(resolve))
  }
}

export interface LoggedLine {
  readonly level: string
  readonly message: string
}

export function recordingLogger(lines: LoggedLine[]): Logger {
  const at = (level: string) => (message: string) => {
    lines.push({ level, message })
  }
  const logger: Logger = {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    child: () => logger,
  }
  return logger
}

export async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise
    return 'none'
  } catch (error) {
    return (error as LedgerError).code
  }
}
