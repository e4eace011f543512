/**
 * How leaders change the configuration (Raft section 6): each change from a committed one, none before an entry of the
 * own term is committed, and voters only by a joint step. Checked when the entry is staged, whatever becomes of it: the
 * schedule in which a wrong step costs an entry comes once in a million runs.
 *
 * Used by the judge, once per replica.
 */
import type { Membership, PlacedMembership } from '../../src/broker/membership/membership.ts'
import type { Replica } from '../../src/broker/replica/replica.ts'
import type { Member } from '../../src/rpc/methods.ts'

export interface StepFacts {
  /** Of the leader. */
  readonly term: number
  readonly commit: number
  /** An entry of its term is committed. */
  readonly isTermStarted: boolean
  /** From the newest one that it knows to be committed, ascending. The last one is its own. */
  readonly placed: readonly PlacedMembership[]
}

export interface StepListener {
  /** The replica leads and has begun this configuration. */
  begun(placed: PlacedMembership): void
  fail(text: string): void
}

/** Tells of every step that this replica takes as a leader. */
export function watchSteps(replica: Replica, listener: StepListener): void {
  let { newest } = replica.history
  replica.history.onChanged(() => {
    const { placed } = replica.history
    const last = replica.history.newest
    const isNew = last.index > newest.index
    newest = last
    if (!isNew) return
    const { role, term, commit, termStarted: isTermStarted } = replica.raftStatus()
    const [frame] = replica.log.cached(last.index, 1) ?? []
    // What it received before it was elected is somebody else's.
    if (role !== 'leader' || frame?.header.term !== term) return
    const problem = wrongStep({ term, commit, isTermStarted, placed })
    if (problem !== null) listener.fail(`${replica.node} of term ${term}: ${problem}`)
    listener.begun(last)
  })
}

/** Why this replica must not be the leader that it is; null when it may. */
export function wrongLeader({ node, history, term }: Replica): string | null {
  const { index, membership } = history.committed
  const { voters, outgoing } = membership
  if (!history.isCommitted || [...voters, ...outgoing].some((voter) => voter.node === node)) return null
  return `${node} leads term ${term} after configuration ${index}, which took its vote, is committed`
}

/** Null when the last step is right. */
export function wrongStep({ term, commit, isTermStarted, placed }: StepFacts): string | null {
  const next = placed.at(-1) as PlacedMembership
  if (!isTermStarted) return `configuration ${next.index} is begun before an entry of term ${term} is committed`
  const before = placed.at(-2)
  if (!before) return null
  if (before.index > commit) return `configuration ${next.index} is begun, ${before.index} is not committed`
  if (isRightStep(before.membership, next.membership)) return null
  return `configuration ${next.index} gives the vote to ${names(next.membership.voters)} at once, after ${names(before.membership.voters)}`
}

function isRightStep(before: Membership, next: Membership): boolean {
  if (next.outgoing.length === 0) return isSame(before.voters, next.voters)
  return before.outgoing.length === 0 && isSame(before.voters, next.outgoing)
}

function isSame(some: readonly Member[], others: readonly Member[]): boolean {
  const has = (member: Member): boolean => others.some(({ node, disk }) => node === member.node && disk === member.disk)
  return some.length === others.length && some.every(has)
}

function names(members: readonly Member[]): string {
  return members.map(({ node }) => node).join(' ')
}
