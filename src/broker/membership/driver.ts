/**
 * Carries changes of membership to their end on the leader: leaves joint configurations, brings replaced nodes back as
 * learners, and makes voters of learners that hold the log. Started by `broker.ts`, one per replica.
 *
 * It remembers nothing that matters: every step follows from the membership in the log (`change.ts`), so that the next
 * leader goes on where this one stopped, and a step proposed twice is refused by the core.
 */
import type { Cancel, Clock } from '../../common/clock.ts'
import type { Logger } from '../../common/logger.ts'
import type { Replica } from '../replica/replica.ts'
import { CatchUp } from './catch-up.ts'
import { type ChangeFacts, nextStep, underWay } from './change.ts'
import { memberNamed } from './membership.ts'

/** Between two looks at a change under way. */
const roundMs = 50
const proposeTimeoutMs = 5000

export interface DriverPorts {
  readonly clock: Clock
  readonly logger: Logger
  /** A learner that is behind by less than this is caught up, and a peer that is silent for twice as long is away. */
  readonly electionTimeoutMs: number
  /** The one that runs; null in between. */
  replica(): Replica | null
  /** Role or membership changed. Returns the removal. */
  onChanged(listener: () => void): () => void
}

export class MembershipDriver {
  readonly #ports: DriverPorts
  readonly #catchUps = new Map<string, CatchUp>()
  #removeListener: () => void = () => {}
  #timer: Cancel | null = null
  #proposing = false
  #closed = false

  constructor(ports: DriverPorts) {
    this.#ports = ports
  }

  start(): void {
    this.#removeListener = this.#ports.onChanged(() => this.#plan())
    this.#plan()
  }

  close(): void {
    this.#closed = true
    this.#removeListener()
    this.#timer?.()
    this.#timer = null
  }

  /** What this leader knows of the members at this moment. */
  facts(replica: Replica): Omit<ChangeFacts, 'force'> {
    const { membership } = replica.history.newest
    const raft = replica.raftStatus()
    return {
      membership,
      isCommitted: raft.configurationCommitted && replica.history.isCommitted,
      isReachable: (node) => {
        if (node === replica.node) return true
        const peer = raft.peers.find(({ id }) => id === node)
        const silentMs = peer?.silentMs ?? Number.POSITIVE_INFINITY
        return replica.members.isConnected(node) && silentMs < this.#ports.electionTimeoutMs * 2
      },
      isCaughtUp: (node) => this.#observe(replica, node),
    }
  }

  #plan(): void {
    if (this.#closed || this.#timer) return
    const replica = this.#ports.replica()
    if (!replica?.leading || !isBusy(replica)) {
      this.#catchUps.clear()
      return
    }
    const again = (): void => {
      this.#timer = null
      this.#round(replica)
      this.#plan()
    }
    this.#timer = this.#ports.clock.after(roundMs, again, { background: true })
  }

  #round(replica: Replica): void {
    if (this.#proposing || this.#ports.replica() !== replica || !replica.leading) return
    const facts = this.facts(replica)
    if (!facts.isCommitted) return
    const step = nextStep(facts.membership, facts)
    if (!step) return
    this.#proposing = true
    replica
      .proposeMembership(step, { timeoutMs: proposeTimeoutMs })
      .catch((error: unknown) => {
        // Deposed, without a quorum, or handing over: whoever leads then does it.
        this.#ports.logger.debug('the membership did not move', { error: String(error) })
      })
      .finally(() => {
        this.#proposing = false
      })
  }

  /** Judged by rounds (thesis 4.2.1), which need to be looked at now and then: asked of every learner in every round. */
  #observe(replica: Replica, node: string): boolean {
    const raft = replica.raftStatus()
    const disk = memberNamed(replica.history.newest.membership, node)?.disk ?? ''
    const match = raft.peers.find(({ id }) => id === node)?.match
    if (match === undefined || match === 0) return false
    const key = `${raft.term}/${node}/${disk}`
    const nowMs = this.#ports.clock.monotonicMs()
    const target = { match, lastIndex: raft.lastIndex }
    let catchUp = this.#catchUps.get(key)
    if (!catchUp) {
      catchUp = new CatchUp(this.#ports.electionTimeoutMs, target, nowMs)
      this.#catchUps.set(key, catchUp)
    }
    return catchUp.observe(target, nowMs)
  }
}

function isBusy({ history }: Replica): boolean {
  return underWay(history.newest.membership, history.isCommitted) !== null
}
