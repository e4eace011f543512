/** Puts committed changes of membership into the node's event ring. Called by the replica, in the order of the log. */
import type { EventSink } from '../events.ts'
import { isJoint, type Membership, membersOf, named, type PlacedMembership } from './membership.ts'

export function publishMembership(before: Membership, after: PlacedMembership, term: number, sink: EventSink): void {
  const { index, membership } = after
  const list = (members: readonly { readonly node: string }[]): string => members.map(({ node }) => node).join(' ')
  sink.emit('configuration_committed', term, {
    index,
    voters: list(membership.voters),
    outgoing: list(membership.outgoing),
    learners: list(membership.learners),
  })
  for (const { node, disk } of membersOf(membership)) {
    const old = membersOf(before).find((member) => member.node === node)
    if (old?.disk !== disk) sink.emit('member_added', term, { node, disk })
    const isVoter = !isJoint(membership) && named(membership.voters, node) !== undefined
    if (isVoter && (!named(before.voters, node) || (isJoint(before) && !named(before.outgoing, node)))) {
      sink.emit('member_promoted', term, { node })
    }
  }
  for (const { node, disk } of membersOf(before)) {
    if (!named(membersOf(membership), node)) sink.emit('member_removed', term, { node, disk })
  }
}
