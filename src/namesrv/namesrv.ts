/**
 * A namesrv: brokers register here, clients ask here where topics are. Started by the command line, by the embedded
 * cluster and by tests.
 *
 * It keeps nothing on disk and knows no other namesrv: one that starts empty is complete again as soon as every
 * broker has registered, which they do every `registerIntervalMs`.
 */
import type { Clock } from '../common/clock.ts'
import type { Logger } from '../common/logger.ts'
import { namesrvMethods, type RouteReply } from '../rpc/methods.ts'
import type { Transport } from '../rpc/transport.ts'
import { Liveness, scanIntervalMsDefault, silentMsDefault } from './liveness.ts'
import { checkRouteTopics } from './registration-check.ts'
import { brokersMaxDefault, Registrations } from './registrations.ts'
import { RouteTable } from './route-table.ts'
import { RouteWatchers, watchersMaxDefault } from './watchers.ts'

/** RocketMQ: registerNameServerPeriod. */
export const registerIntervalMsDefault = 30_000
const closeGraceMs = 500

export interface NamesrvOptions {
  /** `host:port`; port 0 picks a free one. RocketMQ's port is 9876. */
  readonly listen: string
  /** How often brokers are asked to register, default 30 s. */
  readonly registerIntervalMs?: number
  /** A broker not heard of for this long is removed, default 120 s. */
  readonly silentMs?: number
  /** How often silent brokers are looked for, default 10 s. */
  readonly scanIntervalMs?: number
  /** Most streams of brokers, default 10,000. */
  readonly brokersMax?: number
  /** Most streams that watch routes, default 10,000. */
  readonly watchersMax?: number
}

export interface NamesrvPorts {
  readonly clock: Clock
  readonly transport: Transport
  readonly logger: Logger
}

export interface Namesrv {
  /** The bound address as `host:port`. */
  readonly address: string
  /** What a client would be told, for status and tests. */
  route(topics: readonly string[]): RouteReply
  close(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

/** Resolves when it listens. Rejects with PORT_IN_USE. */
export async function startNamesrv(options: NamesrvOptions, ports: NamesrvPorts): Promise<Namesrv> {
  const table = new RouteTable()
  const watchers = new RouteWatchers({
    clock: ports.clock,
    route: (topics) => table.route(topics),
    watchersMax: options.watchersMax ?? watchersMaxDefault,
  })
  const registrations = new Registrations({
    clock: ports.clock,
    logger: ports.logger,
    table,
    onChange: (change) => watchers.onChange(change),
    intervalMs: options.registerIntervalMs ?? registerIntervalMsDefault,
    brokersMax: options.brokersMax ?? brokersMaxDefault,
  })
  const server = await ports.transport.listen(options.listen, (routes) => {
    routes.stream(namesrvMethods.register, (sink, context) => registrations.open(sink, context))
    routes.stream(namesrvMethods.watchRoute, (sink) => watchers.open(sink))
    routes.unary(namesrvMethods.getRoute, async (request) => {
      checkRouteTopics(request.topics)
      return table.route(request.topics)
    })
  })
  const liveness = new Liveness({
    clock: ports.clock,
    intervalMs: options.scanIntervalMs ?? scanIntervalMsDefault,
    scan: (nowMs) => registrations.expire(nowMs, options.silentMs ?? silentMsDefault),
  })
  ports.logger.info('namesrv listens', { address: server.address })

  let closing: Promise<void> | null = null
  const close = (): Promise<void> => {
    closing ??= (async () => {
      liveness.close()
      watchers.close()
      registrations.close()
      await server.close(closeGraceMs)
    })()
    return closing
  }
  return {
    address: server.address,
    route: (topics) => table.route(topics),
    close,
    [Symbol.asyncDispose]: close,
  }
}
