/**
 * One broker group as the `raft` commands reach it: from any of its brokers or through a namesrv, always on to the
 * leader. Follows hints with a bound, repeats only what may be repeated, and remembers every address it hears.
 */
import { type Clock, sleep } from '../../common/clock.ts'
import { LedgerError, toLedgerError } from '../../common/errors.ts'
import {
  adminMethods,
  type BrokerGroup,
  type MembershipReply,
  namesrvMethods,
  type ReplicaStatusReply,
  type TransferLeadershipReply,
} from '../../rpc/methods.ts'
import type { Channel, Transport, UnaryMethod } from '../../rpc/transport.ts'

export interface GroupPorts {
  readonly clock: Clock
  readonly transport: Transport
}

export interface GroupPlace {
  /** Brokers of the group; found through the namesrvs when empty. */
  readonly addresses: readonly string[]
  readonly namesrv: readonly string[]
  /** Which group, when found through the namesrvs; needed when they know several. */
  readonly group: string | undefined
}

export interface ReplicaView {
  readonly address: string
  readonly status: ReplicaStatusReply | null
  readonly error: LedgerError | null
}

const attemptMsMax = 5000
const askMs = 5000
const pauseMs = 100
/** They say nothing of the group. */
const silentCodes: ReadonlySet<string> = new Set(['UNAVAILABLE', 'DEADLINE_EXCEEDED', 'SERVICE_NOT_AVAILABLE'])

export class RaftGroup {
  readonly #ports: GroupPorts
  readonly #addresses = new Set<string>()
  readonly #channels = new Map<string, Channel>()
  /** Who answered last, or was named as leader: asked first, so that a broker that is down costs one try at most. */
  #leader: string | undefined
  /** Which group of its name answered first: an address that changes hands must not take a command with it. */
  #incarnation: string | undefined

  constructor(ports: GroupPorts, addresses: readonly string[]) {
    this.#ports = ports
    this.#learn(addresses)
  }

  /** Throws NO_ROUTE when no namesrv knows the group, INVALID_PARAMETER when it has to be named. */
  static async find(ports: GroupPorts, place: GroupPlace): Promise<RaftGroup> {
    if (place.addresses.length > 0) return new RaftGroup(ports, place.addresses)
    const groups = await routesOf(ports, place.namesrv)
    const wanted = place.group === undefined ? groups : groups.filter((each) => each.group === place.group)
    const names = groups.map((each) => each.group).join(', ')
    if (wanted.length > 1) throw new LedgerError('INVALID_PARAMETER', `name one with --group: ${names}`)
    const [found] = wanted
    if (!found || found.nodes.length === 0) {
      throw new LedgerError('NO_ROUTE', `no namesrv knows group ${place.group ?? ''}; known are ${names || 'none'}`)
    }
    return new RaftGroup(
      ports,
      found.nodes.map((node) => node.address),
    )
  }

  /**
   * Calls the leader. `isSafe` says which other failures may be answered by asking again: a lost answer of a call that
   * changes something is the caller's to judge.
   */
  async call<Request, Reply>(
    method: UnaryMethod<Request, Reply>,
    request: Request,
    options: { readonly timeoutMs: number; isSafe(error: LedgerError): boolean },
  ): Promise<Reply> {
    const { clock } = this.#ports
    const endMs = clock.monotonicMs() + options.timeoutMs
    let reason: LedgerError | null = null
    for (let attempt = 0; ; attempt++) {
      const all = [...this.#addresses]
      const address = this.#leader ?? (all[attempt % all.length] as string)
      try {
        const timeoutMs = Math.max(1, Math.min(attemptMsMax, endMs - clock.monotonicMs()))
        const reply = await this.#channel(address).call(method, request, { timeoutMs })
        this.#leader = address
        return reply
      } catch (cause) {
        const error = toLedgerError(cause)
        const hint = error.facts.leader?.address || undefined
        this.#leader = hint
        if (hint !== undefined) this.#learn([hint])
        if (error.code !== 'NOT_LEADER' && !options.isSafe(error)) throw error
        // What a member said explains more than a broker that is down or outside, or an attempt without time left.
        if (reason === null || !silentCodes.has(error.code)) reason = error
        if (clock.monotonicMs() >= endMs) throw withTotalTime(reason, options.timeoutMs)
        // A hint is followed at once, but not for ever: two replicas may each believe in the other.
        if (hint === undefined || attempt > all.length) await sleep(clock, pauseMs)
      }
    }
  }

  /** Rejects with FOREIGN_GROUP when another group than the first time has the addresses. */
  async membership(timeoutMs: number): Promise<MembershipReply> {
    const reply = await this.call(adminMethods.getMembership, {}, { timeoutMs, isSafe: (error) => error.retryable })
    this.#incarnation ??= reply.incarnation
    if (reply.incarnation !== this.#incarnation) {
      const found = `incarnation ${reply.incarnation} of group ${reply.group} answers now`
      throw new LedgerError('FOREIGN_GROUP', `${found}, not ${this.#incarnation} as before`)
    }
    this.#learn(reply.members.map((member) => member.address))
    return reply
  }

  /** Resolves when `to` leads, or with an empty `to` whoever took over. NOT_A_MEMBER, WOULD_LOSE_QUORUM: it cannot. */
  async transferLeadership(to: string, timeoutMs: number): Promise<TransferLeadershipReply> {
    // Finds the leader, past brokers that are down: that may be repeated.
    const { incarnation } = await this.membership(timeoutMs)
    // Asked again it would find another leader, and move leadership once more.
    const isSafe = (error: LedgerError): boolean =>
      error.code === 'NO_QUORUM' || (to !== '' && error.code === 'UNAVAILABLE')
    const request = { to, ...(incarnation === undefined ? {} : { incarnation }) }
    return this.call(adminMethods.transferLeadership, request, { timeoutMs, isSafe })
  }

  /** Every replica that is known, asked directly; one that does not answer is part of the answer. */
  statuses(): Promise<readonly ReplicaView[]> {
    return Promise.all(
      [...this.#addresses].map(async (address): Promise<ReplicaView> => {
        try {
          const status = await this.#channel(address).call(adminMethods.getReplicaStatus, {}, { timeoutMs: askMs })
          return { address, status, error: null }
        } catch (cause) {
          return { address, status: null, error: toLedgerError(cause) }
        }
      }),
    )
  }

  close(): void {
    for (const channel of this.#channels.values()) channel.close()
  }

  #learn(addresses: readonly string[]): void {
    for (const address of addresses) if (address !== '') this.#addresses.add(address)
  }

  #channel(address: string): Channel {
    const known = this.#channels.get(address)
    if (known) return known
    const channel = this.#ports.transport.connect(address, 'client')
    this.#channels.set(address, channel)
    return channel
  }
}

/** A broker that finds no leader tells the time of its own attempt, the caller wants to know how long he waited. */
function withTotalTime(reason: LedgerError, timeoutMs: number): LedgerError {
  if (reason.code !== 'NO_QUORUM') return reason
  const message = `no leader that a majority follows was found within ${Math.round(timeoutMs)} ms`
  return new LedgerError('NO_QUORUM', message, reason.facts, { cause: reason })
}

/** Groups that the first namesrv to answer knows. */
async function routesOf({ transport }: GroupPorts, namesrvs: readonly string[]): Promise<readonly BrokerGroup[]> {
  let last = new LedgerError('NO_ROUTE', 'no namesrv is given')
  for (const address of namesrvs) {
    const channel = transport.connect(address, 'client')
    try {
      return (await channel.call(namesrvMethods.getRoute, { topics: [] }, { timeoutMs: askMs })).groups
    } catch (cause) {
      last = toLedgerError(cause)
    } finally {
      channel.close()
    }
  }
  throw last
}
