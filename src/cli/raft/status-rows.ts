/**
 * The rows of `raft status`: every replica that answered or is known to be a member, also while nobody leads. Pure;
 * called by the command. A member that does not answer is a row with what the others say of it, never a gap.
 */
import { LedgerError } from '../../common/errors.ts'
import type { MembershipReply, ReplicaStatusReply } from '../../rpc/methods.ts'
import type { ReplicaView } from './group.ts'

export interface StatusRow extends ReplicaView {
  /** Empty when nobody says who should be at the address. */
  readonly node: string
}

/** A member as another one knows it. */
interface Mentioned {
  readonly node: string
  readonly address: string
  readonly raftAddress: string
  readonly problem?: string
}

/** `membership`: as the leader tells it; null without one, then the replicas that answer say whom they know. */
export function statusRows(views: readonly ReplicaView[], membership: MembershipReply | null): readonly StatusRow[] {
  const mentioned: readonly Mentioned[] = membership?.members ?? views.flatMap(({ status }) => peersOf(status))
  const nodeAt = (address: string): string => mentioned.find((member) => member.address === address)?.node ?? ''
  const rows: StatusRow[] = views.map((view) => ({ ...view, node: view.status?.node ?? nodeAt(view.address) }))
  for (const member of mentioned) {
    const known = rows.findIndex((row) => row.node === member.node)
    if (known < 0) rows.push(absent(member))
    // Several speak of it: one that knows what is wrong says more than one that does not.
    else if (rows[known]?.address === '' && member.problem !== undefined) rows[known] = absent(member)
  }
  return rows
}

/** Who is outside may know an old membership. */
function peersOf(status: ReplicaStatusReply | null): readonly Mentioned[] {
  if (status === null || status.role === 'stranger' || status.role === 'removed') return []
  return status.peers.map((peer) => ({ ...peer, address: '' }))
}

function absent({ node, raftAddress, problem }: Mentioned): StatusRow {
  const why = problem ?? 'where clients reach it is not known'
  const told = why.startsWith(raftAddress) ? why : `${raftAddress}: ${why}`
  return { node, address: '', status: null, error: new LedgerError('UNAVAILABLE', `raft ${told}`) }
}

/** Longer reasons would stretch a table beyond every terminal; JSON has them whole. */
const tableTextMax = 60

/** The first sentence, cut where it is too long. */
export function inTable(text: string | undefined): string | undefined {
  const first = text?.split(/; |\. /, 1)[0]
  if (first === undefined || first.length <= tableTextMax) return first
  return `${first.slice(0, tableTextMax - 1)}…`
}
