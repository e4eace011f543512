/**
 * Unary calls that only the leader of a broker group answers: offsets, group membership, topics. Follows hints, tries
 * the other replicas when no leader is known, and gives up at the deadline with what was tried.
 *
 * Only for calls that may be repeated: an answer that got lost is asked for again.
 */
import type { Clock, Random } from '../common/clock.ts'
import { LedgerError, toLedgerError } from '../common/errors.ts'
import type { BrokerNode } from '../rpc/methods.ts'
import type { UnaryMethod } from '../rpc/transport.ts'
import { failureAt } from './attempt-line.ts'
import type { ConnectionPool } from './connection.ts'
import type { RouteCache } from './route-cache.ts'
import { aborted, allowManyListeners, backoffMs } from './wait.ts'

/** Most time one replica gets to answer. */
export const callAttemptMsMax = 3_000
const searchBackoffMs = { min: 20, max: 200 } as const
const hintHopsMax = 5

export interface LeaderCallPorts {
  readonly routes: RouteCache
  readonly pool: ConnectionPool
  readonly clock: Clock
  readonly random: Random
}

export interface LeaderCallOptions {
  readonly timeoutMs: number
  readonly signal?: AbortSignal
}

/** Throws the leader's refusal, NO_ROUTE for an unknown group, NO_QUORUM or TIMEOUT when nobody led in time. */
export async function callLeader<Request, Response>(
  ports: LeaderCallPorts,
  group: string,
  call: { readonly method: UnaryMethod<Request, Response>; readonly request: Request },
  options: LeaderCallOptions,
): Promise<Response> {
  const search = new LeaderSearch(ports, group)
  const deadlineMs = ports.clock.monotonicMs() + options.timeoutMs
  let last: LedgerError | null = null
  if (options.signal) allowManyListeners(options.signal)
  while (true) {
    if (options.signal?.aborted) throw aborted(`${call.method.name} of ${group}`, options.signal)
    const remainingMs = deadlineMs - ports.clock.monotonicMs()
    if (remainingMs <= 0) throw gaveUp(call.method.name, group, search.lines, last)
    const target = search.next()
    if (!target) {
      ports.routes.refresh()
      await ports.routes.changed(Math.min(remainingMs, search.pauseMs()), options.signal)
      continue
    }
    try {
      const timeoutMs = Math.min(remainingMs, Math.max(callAttemptMsMax, remainingMs / 3))
      const withSignal = options.signal ? { timeoutMs, signal: options.signal } : { timeoutMs }
      return await ports.pool.get(target.address).call(call.method, call.request, withSignal)
    } catch (cause) {
      last = toLedgerError(cause)
      if (options.signal?.aborted) throw aborted(`${call.method.name} of ${group}`, options.signal)
      if (!last.retryable || last.code === 'ILLEGAL_GENERATION') throw last
      search.failed(target, last)
      ports.routes.refresh()
    }
  }
}

/** Whom to ask next. */
class LeaderSearch {
  readonly lines: string[] = []
  readonly #ports: LeaderCallPorts
  readonly #group: string
  readonly #failed = new Set<string>()
  #hint: BrokerNode | null = null
  #hops = 0
  #rounds = 0

  constructor(ports: LeaderCallPorts, group: string) {
    this.#ports = ports
    this.#group = group
  }

  next(): BrokerNode | null {
    const hint = this.#hint
    this.#hint = null
    if (hint) return hint
    const route = this.#ports.routes.table.group(this.#group)
    if (route?.leader && !this.#failed.has(route.leader.address)) return route.leader
    const other = route?.nodes.find((node) => !this.#failed.has(node.address))
    if (other) return other
    this.#failed.clear()
    return null
  }

  pauseMs(): number {
    return backoffMs(this.#rounds++, searchBackoffMs, this.#ports.random.next())
  }

  failed(target: BrokerNode, error: LedgerError): void {
    if (this.lines.length < 20) this.lines.push(failureAt(target.address, error))
    const { leader, term } = error.facts
    const news = error.code === 'NOT_LEADER' && leader?.address && !this.#failed.has(leader.address)
    this.#failed.add(target.address)
    if (!news || !leader || ++this.#hops > hintHopsMax) return
    if (term !== undefined) this.#ports.routes.learnLeader(this.#group, term, leader)
    this.#hint = leader
  }
}

function gaveUp(name: string, group: string, lines: readonly string[], last: LedgerError | null): LedgerError {
  if (!last) return new LedgerError('NO_ROUTE', `${name}: no namesrv knows broker group ${group}`)
  const text = `${name}: no leader of ${group} answered in time; the last try: ${last.message}`
  const code = last.code === 'DEADLINE_EXCEEDED' ? 'TIMEOUT' : 'NO_QUORUM'
  return new LedgerError(code, text, { attempts: lines }, { cause: last })
}
