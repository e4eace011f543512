/**
 * Membership of a consumer group on one broker group: heartbeats to its leader, which answers with the generation and
 * the queues that this member owns. One per broker group, owned by the push consumer.
 *
 * It only listens and tells; what is done with an assignment is the consumer's. A lost leader changes nothing: the
 * assignment is in the log, and the next leader goes on with it.
 */
import type { Cancel } from '../../common/clock.ts'
import { type LedgerError, toLedgerError } from '../../common/errors.ts'
import type { Logger } from '../../common/logger.ts'
import { brokerMethods } from '../../rpc/methods.ts'
import { callLeader, type LeaderCallPorts } from '../leader-call.ts'
import type { MessageQueue } from '../types.ts'

/** After a failed heartbeat. */
const retryMs = 500
/** Whatever a broker asks for, heartbeats come within these bounds. */
const intervalMsBounds = { min: 50, max: 30_000 } as const

export interface Assignment {
  readonly generation: number
  readonly queues: readonly MessageQueue[]
}

export interface GroupMemberOptions {
  readonly ports: LeaderCallPorts & { readonly logger: Logger }
  readonly brokerGroup: string
  readonly group: string
  readonly member: string
  readonly topics: readonly string[]
  readonly sessionTimeoutMs: number
  readonly onAssignment: (assignment: Assignment) => void
  /** Null after the first answer that follows a failure. */
  readonly onTrouble: (error: LedgerError | null) => void
}

export class GroupMember {
  readonly #options: GroupMemberOptions
  readonly #stop = new AbortController()
  #generation = 0
  #cancelTimer: Cancel = () => {}
  #beating = false
  #again = false
  #inTrouble = false
  #joined = false

  constructor(options: GroupMemberOptions) {
    this.#options = options
  }

  /** Sends a heartbeat now, or right after the one that is under way. */
  beat(): void {
    if (this.#stop.signal.aborted) return
    this.#cancelTimer()
    if (this.#beating) this.#again = true
    else void this.#beat()
  }

  /** Gives the queues back at once instead of after the session timeout. Never throws. */
  async leave(timeoutMs: number): Promise<void> {
    this.#stop.abort()
    this.#cancelTimer()
    if (!this.#joined) return
    const { ports, brokerGroup, group, member } = this.#options
    try {
      const call = { method: brokerMethods.leaveGroup, request: { group, member } }
      await callLeader(ports, brokerGroup, call, { timeoutMs })
    } catch (cause) {
      // The session timeout will do the same a little later.
      ports.logger.debug('leaving the group failed', { brokerGroup, group, error: toLedgerError(cause).message })
    }
  }

  async #beat(): Promise<void> {
    const { ports, brokerGroup, group, member, topics, sessionTimeoutMs } = this.#options
    this.#beating = true
    let waitMs: number = retryMs
    try {
      const request = { group, member, topics, generation: this.#generation, sessionTimeoutMs }
      const call = { method: brokerMethods.groupHeartbeat, request }
      const options = { timeoutMs: sessionTimeoutMs / 2, signal: this.#stop.signal }
      const reply = await callLeader(ports, brokerGroup, call, options)
      if (this.#stop.signal.aborted) return
      this.#joined = true
      waitMs = Math.max(intervalMsBounds.min, Math.min(intervalMsBounds.max, reply.intervalMs))
      this.#generation = reply.generation
      const queues = reply.queues.map((entry) => ({ topic: entry.topic, group: brokerGroup, queue: entry.queue }))
      this.#tellTrouble(null)
      this.#options.onAssignment({ generation: reply.generation, queues })
    } catch (cause) {
      if (this.#stop.signal.aborted) return
      this.#tellTrouble(toLedgerError(cause))
    } finally {
      this.#beating = false
    }
    if (this.#again) waitMs = 0
    this.#again = false
    this.#cancelTimer = ports.clock.after(waitMs, () => this.beat())
  }

  #tellTrouble(error: LedgerError | null): void {
    if (error === null && !this.#inTrouble) return
    this.#inTrouble = error !== null
    this.#options.onTrouble(error)
  }
}
