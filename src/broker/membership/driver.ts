/**
 * Carries changes of membership to their end on the leader: leaves joint configurations, brings replaced nodes back as
 * learners, and makes voters of learners that hold the log. Started by `broker.ts`, one per replica.
 *
 * It remembers nothing that matters: every step follows from the membership in the log (`change.ts`), so that the next
 * leader goes on where this one stopped, and a step proposed twice is refused by the core.
 */
import { type Cancel, type Clock, sleep } from '../../common/clock.ts'
import type { Logger } from '../../common/logger.ts'
import type { Replica } from '../replica/replica.ts'
import { CatchUp, type Progress } from './catch-up.ts'
import { type ChangeFacts, nextStep, underWay } from './change.ts'
import { memberNamed, named } from './membership.ts'

/** Between two looks at a change under way. */
const roundMs = 50
const proposeTimeoutMs = 5000
/** Rounds that a learner is watched for before it is refused: one may be slow. */
const watchedRounds = 2

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

  /**
   * Whether this learner is close enough to become a voter, judged by rounds of its own: under load something is always
   * on its way to it, so that a single look says nothing.
   */
  async watch(replica: Replica, node: string, signal: AbortSignal): Promise<boolean> {
    const { clock, electionTimeoutMs } = this.#ports
    const startMs = clock.monotonicMs()
    let catchUp: CatchUp | null = null
    for (;;) {
      const isLearner = named(replica.history.newest.membership.learners, node) !== undefined
      const progress = progressOf(replica, node)
      const nowMs = clock.monotonicMs()
      if (!isLearner || !progress || !replica.leading) return false
      catchUp ??= new CatchUp(electionTimeoutMs, progress, nowMs)
      if (catchUp.observe(progress, nowMs)) return true
      if (nowMs - startMs >= electionTimeoutMs * watchedRounds) return false
      await sleep(clock, roundMs, signal)
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
      .proposeMembership(step, replica.history.newest.index, { timeoutMs: proposeTimeoutMs })
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
    const progress = progressOf(replica, node)
    if (!progress) return false
    const disk = memberNamed(replica.history.newest.membership, node)?.disk ?? ''
    const key = `${replica.term}/${node}/${disk}`
    const nowMs = this.#ports.clock.monotonicMs()
    let catchUp = this.#catchUps.get(key)
    if (!catchUp) {
      catchUp = new CatchUp(this.#ports.electionTimeoutMs, progress, nowMs)
      this.#catchUps.set(key, catchUp)
    }
    return catchUp.observe(progress, nowMs)
  }
}

/** Null when nothing of the log is known to be there. */
function progressOf(replica: Replica, node: string): Progress | null {
  const raft = replica.raftStatus()
  const match = raft.peers.find(({ id }) => id === node)?.match
  return match === undefined || match === 0 ? null : { match, lastIndex: raft.lastIndex }
}

function isBusy({ history }: Replica): boolean {
  return underWay(history.newest.membership, history.isCommitted) !== null
}
