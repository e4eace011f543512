/**
 * Brings leadership back to the voter that should rather lead (`ledgermq raft priority`). Owned by `leadership.ts`; idle
 * on followers, and where nobody has a higher priority than the leader.
 *
 * In an election a lower priority only waits (`raft/handicap.ts`), so after a failure anyone may lead. A handover costs
 * producers a moment: it is ordered only when the preferred voter could have taken over at every look of a calm time,
 * and not again before another one, whatever came of it. A voter that comes and goes does not take leadership with it.
 */
import type { Input, RaftStatus, StepResult } from '../../../raft/index.ts'
import type { Cancel, Clock } from '../../common/clock.ts'
import type { MembershipHistory } from '../membership/history.ts'
import { isJoint, type Membership, named, priorityOf } from '../membership/membership.ts'

export interface PriorityReturnPorts {
  readonly clock: Clock
  readonly node: string
  /** So long a voter must have been able to take over, and so long lies between two handovers, milliseconds. */
  readonly calmMs: number
  readonly history: MembershipHistory
  raftStatus(): RaftStatus
  isConnected(node: string): boolean
  step(input: Input): StepResult
}

/** Looks in one calm time. */
const looks = 10
/** Entries that a voter under load may lack; a handover waits for them without taking proposals. */
const lagEntriesMax = 1024

export class PriorityReturn {
  readonly #ports: PriorityReturnPorts
  /** Who could have taken over at every look since then. */
  #heir: string | null = null
  #sinceMs = 0
  #cancel: Cancel | null = null

  constructor(ports: PriorityReturnPorts) {
    this.#ports = ports
  }

  /** Role, leader or membership may have changed. */
  changed(): void {
    if (!this.#isWanted()) this.stop()
    else if (this.#cancel === null) this.#look()
  }

  stop(): void {
    this.#cancel?.()
    this.#cancel = null
    this.#heir = null
  }

  #look(): void {
    const { clock, raftStatus, history, node, isConnected, step, calmMs } = this.#ports
    const nowMs = clock.monotonicMs()
    const heir = history.isCommitted ? heirOf(node, history.newest.membership, raftStatus(), isConnected) : null
    if (heir !== this.#heir) {
      this.#heir = heir
      this.#sinceMs = nowMs
    } else if (heir !== null && nowMs - this.#sinceMs >= calmMs) {
      this.#sinceMs = nowMs
      step({ kind: 'transfer', to: heir })
    }
    this.#cancel = clock.after(
      calmMs / looks,
      () => {
        this.#cancel = null
        this.changed()
      },
      { background: true },
    )
  }

  /** This node leads although another voter should rather. Asked at every change of role: cheap where there are none. */
  #isWanted(): boolean {
    const { history, node, raftStatus } = this.#ports
    const { membership } = history.newest
    if (membership.priorities.length === 0) return false
    const own = priorityOf(membership, node)
    if (!membership.voters.some((voter) => priorityOf(membership, voter.node) > own)) return false
    return raftStatus().role === 'leader'
  }
}

/** The voter with the highest priority above the own one that could take over now, null for none. */
function heirOf(
  self: string,
  membership: Membership,
  raft: RaftStatus,
  isConnected: (node: string) => boolean,
): string | null {
  // A change or a handover that is under way comes first.
  if (isJoint(membership) || !raft.termStarted || raft.unconfirmed || raft.transferringTo !== null) return null
  const priority = ({ id }: { readonly id: string }): number => priorityOf(membership, id)
  const own = priorityOf(membership, self)
  const heirs = raft.peers.filter(
    (peer) =>
      priority(peer) > own &&
      peer.canLead &&
      peer.state === 'replicate' &&
      raft.lastIndex - peer.match <= lagEntriesMax &&
      named(membership.voters, peer.id) !== undefined &&
      isConnected(peer.id),
  )
  return heirs.sort((a, b) => priority(b) - priority(a) || (a.id < b.id ? -1 : 1))[0]?.id ?? null
}
