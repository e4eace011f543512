/**
 * Who does not stand for election as others do although it has a vote: a quarantined node, one that cannot lead, and one
 * that would lead badly and lets others stand first.
 *
 * Used by `core.ts` for the inputs `quarantine`, `healed` and `health`, and where a quarantine may end.
 */
import { awaitLeader } from './election-timer.ts'
import { stepDown } from './leader.ts'
import type { Progress } from './progress.ts'
import { Quarantine } from './quarantine.ts'
import type { Replica } from './replica.ts'
import { becomeFollower } from './roles.ts'
import { startTransfer } from './transfer.ts'
import type { Health } from './types.ts'

/** Rot was found in the log of a running node. */
export function enterQuarantine(replica: Replica): void {
  if (replica.quarantine !== null) {
    replica.quarantine.holesFound()
    return
  }
  replica.quarantine = new Quarantine(false)
  replica.outbox.emit({ kind: 'quarantine_started' })
  if (replica.role === 'leader') handOver(replica)
  else withdraw(replica)
}

export function heal(replica: Replica): void {
  replica.quarantine?.healed()
  maybeEndQuarantine(replica)
}

/** Called whenever more is durable or a leader told where its log ends. */
export function maybeEndQuarantine(replica: Replica): void {
  const { quarantine, log, outbox } = replica
  if (quarantine === null) return
  quarantine.stableTo(log.stable)
  if (!quarantine.isOver) return
  replica.quarantine = null
  outbox.emit({ kind: 'quarantine_ended' })
  if (replica.role === 'follower') awaitLeader(replica)
}

export function changeHealth(replica: Replica, health: Health): void {
  const before = replica.health
  if (before === health) return
  replica.health = health
  // A leader leads on until it is told to hand over: that there is one may be worth more than that it is well.
  if (replica.role === 'leader') return
  replica.handicap = null
  if (health !== 'well') withdraw(replica)
  else if (before === 'unable' && replica.role === 'follower') awaitLeader(replica)
}

/** To whoever can lead and holds most; if that fails the next tick steps down (`leader.ts`). */
function handOver(replica: Replica): void {
  const leadership = replica.leading()
  const { now, config } = replica
  const isAlive = ({ heardAt }: Progress) => heardAt !== null && now - heardAt < config.electionTimeoutMinMs
  const isFit = (progress: Progress) => progress.canLead && isAlive(progress)
  const [heir] = [...leadership.followers]
    .filter(([id, progress]) => replica.configuration.voters.includes(id) && isFit(progress))
    .sort(([, a], [, b]) => b.match - a.match)
  if (heir !== undefined) startTransfer(replica, heir[0])
  if (leadership.transfer === null) stepDown(replica, 'sick')
}

/** Gives up a candidacy, and begins to wait anew, or takes the deadline off. */
function withdraw(replica: Replica): void {
  if (replica.role === 'follower') awaitLeader(replica)
  else becomeFollower(replica, replica.term, null, 'sick')
}
